//! Trains on ml-latest-small and prints quality beside the baselines; exits 1 below the floors.
//!
//! Protocol: each visitor's last event held out (ties in file order), the whole catalogue of 9,742 items, history
//! excluded. `quality tune` holds out the event before it instead, which is what settings are chosen on.
//! `quality [tune] [field=value ...]` overrides fields of the training config.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot be read is a failed run")]

#[path = "../tests/fixtures/movielens.rs"]
mod movielens;

use attune_domain::{ItemIx, UserAttributes};
use attune_model::evaluation::{self, ItemKnn, Measure, Popularity, Report};
use attune_model::{Bar, Bundle, ItemTable, Progress, TrainConfig, UserInput, train};
use std::sync::Mutex;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gorse on the same split.
const FLOORS: [(Measure, f64); 2] = [(Measure::Recall(100), 0.331), (Measure::Ndcg(10), 0.0315)];
/// Candidates the ranker gets.
const CANDIDATES: usize = 500;

/// The bar, and how long each stage took.
struct Stages {
    bar: Bar,
    began: Mutex<Option<(String, Instant)>>,
}

impl Progress for Stages {
    fn stage(&self, name: &str, total: u64) {
        self.bar.stage(name, total);
        let before = self.began.lock().ok().and_then(|mut began| began.replace((name.to_owned(), Instant::now())));
        if let Some((name, began)) = before {
            eprintln!("  {name}: {:.1} s", began.elapsed().as_secs_f64());
        }
    }

    fn tick(&self, done: u64, note: &str) {
        self.bar.tick(done, note);
    }
}

fn config(overrides: &[String]) -> anyhow::Result<TrainConfig> {
    let mut fields = serde_json::to_value(TrainConfig::default())?;
    for pair in overrides {
        let (name, value) = pair.split_once('=').ok_or_else(|| anyhow::anyhow!("{pair} is not field=value"))?;
        fields[name] = serde_json::from_str(value)?;
    }
    Ok(serde_json::from_value(fields)?)
}

/// The best unseen items by the user vector alone.
fn retrieve(bundle: &Bundle, table: &ItemTable, input: &UserInput, limit: usize) -> (Vec<f32>, Vec<ItemIx>) {
    let vector = bundle.user_vector(table, input);
    let mut scores = vec![0.0; table.len()];
    attune_inference::score_rows(table.vectors(), table.dim(), &vector, &mut scores);
    let mut order: Vec<u32> = (0..table.len() as u32).filter(|&ix| !input.window.has_seen(ItemIx(ix))).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
    order.truncate(limit);
    (vector, order.into_iter().map(ItemIx).collect())
}

fn main() -> anyhow::Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let tune = words.first().is_some_and(|w| w == "tune");
    if tune {
        words.remove(0);
    }
    let Some(data) = movielens::load() else { return Ok(()) };
    let split = evaluation::leave_out(&data, if tune { 2 } else { 1 });
    let bar = Stages { bar: Bar::default(), began: Mutex::new(None) };
    let started = Instant::now();
    let bundle = train(&split.train, &config(&words)?, &bar)?;
    let took = started.elapsed();
    let table = ItemTable::new(&bundle, &split.train.items);

    let attributes = UserAttributes::default();
    let towers = evaluation::evaluate("towers", &split, &bar, |window, at| {
        let case = &split.cases[at];
        let input = UserInput { window, attributes: &attributes, context: case.context, now: case.at };
        retrieve(&bundle, &table, &input, CANDIDATES).1
    });
    let ranker = evaluation::evaluate("towers, ranked", &split, &bar, |window, at| {
        let case = &split.cases[at];
        let input = UserInput { window, attributes: &attributes, context: case.context, now: case.at };
        let (vector, candidates) = retrieve(&bundle, &table, &input, CANDIDATES);
        let scores = bundle.rank(&table, &input, &vector, &candidates).click;
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        order.into_iter().map(|i| candidates[i]).collect()
    });
    let popularity = Popularity::new(&split.train);
    let knn = ItemKnn::new(&split.train, 100);
    let reports = [
        evaluation::evaluate("random", &split, &bar, |_, at| evaluation::random(data.items.len(), 1, at)),
        evaluation::evaluate("popularity", &split, &bar, |_, _| popularity.recommend().to_vec()),
        evaluation::evaluate("item-kNN (100)", &split, &bar, |window, _| knn.recommend(window)),
        towers,
        ranker,
    ];
    drop(bar);
    println!("{} cases, {} items, trained in {:.0} s", split.cases.len(), data.items.len(), took.as_secs_f64());
    for (name, metric) in &bundle.manifest().metrics {
        println!("  {name} {:.4} ({} samples)", metric.value, metric.samples);
    }
    for report in &reports {
        let mean = |measure| report.mean(measure).unwrap_or(f64::NAN);
        let (recall, ndcg) = (mean(Measure::Recall(100)), mean(Measure::Ndcg(10)));
        println!(
            "{:16} recall@100 {recall:.4}  recall@10 {:.4}  ndcg@10 {ndcg:.4}",
            report.name,
            mean(Measure::Recall(10))
        );
    }
    let mut good = true;
    for (measure, floor) in FLOORS {
        let served: &Report = &reports[4];
        for other in [&reports[2], &reports[3]] {
            if let Some(d) = evaluation::paired_bootstrap(served, other, measure, 2000, 1) {
                println!("ranked less {}, {measure:?}: {:+.4} [{:+.4}, {:+.4}]", other.name, d.mean, d.low, d.high);
            }
        }
        good &= served.mean(measure).is_some_and(|value| value >= floor);
    }
    if !good {
        eprintln!("below the floors {FLOORS:?}");
        std::process::exit(1);
    }
    Ok(())
}
