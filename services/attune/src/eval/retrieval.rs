//! `attune eval retrieval`: the whole catalogue, through the served path.

use super::served::{self, Exploring, Facts, LIMIT, Lists};
use super::table::{self, Estimate};
use super::{EvalOptions, Workplace};
use crate::fill;
use crate::output::{note, print, print_json, progress_bar};
use anyhow::Context as _;
use attune_domain::ItemIx;
use attune_model::evaluation::{self, ItemKnn, Measure, Popularity, Report, Split};
use attune_model::{Bundle, ItemTable, Quiet, UserInput};
use attune_storage::EmbeddedEventLog;
use serde::Serialize;
use std::time::Duration;

const RECALL: Measure = Measure::Recall(LIMIT);
const NDCG: Measure = Measure::Ndcg(10);
/// Longest wait for a platform's last tasks.
const DRAIN: Duration = Duration::from_secs(10);
/// Neighbours that each item of the nearest-neighbour baseline keeps.
const NEAREST: usize = 100;

/// Figures of other recommenders on the last events of ml-latest-small, by name, Recall@100 and NDCG@10. They were
/// measured once with those programs and not in this run.
const ELSEWHERE: [(&str, f64, f64); 2] = [("Gorse 0.5.11", 0.331, 0.0315), ("EASE", 0.393, 0.040)];
/// What the data set of those figures is known by.
const ELSEWHERE_EVENTS: usize = 100_836;

#[derive(Serialize)]
struct Outcome<'a> {
    event: &'static str,
    data: &'a str,
    protocol: String,
    cases: usize,
    items: usize,
    training_events: usize,
    model_version: String,
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    measured_elsewhere: Vec<Elsewhere>,
}

#[derive(Serialize)]
struct Elsewhere {
    name: &'static str,
    recall_at_100: f64,
    ndcg_at_10: f64,
}

#[derive(Serialize)]
struct Row {
    name: String,
    recall_at_100: Option<Estimate>,
    ndcg_at_10: Option<Estimate>,
    /// Recall@100 and NDCG@10 less those of each baseline, paired by visitor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    over: Vec<Over>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Facts>,
}

#[derive(Serialize)]
struct Over {
    baseline: String,
    recall_at_100: Option<Estimate>,
    ndcg_at_10: Option<Estimate>,
}

pub(super) fn run(options: &EvalOptions) -> anyhow::Result<()> {
    let place = Workplace::open(options)?;
    let (data, _) = super::read(options, &place.state)?;
    let published = data.name == "ml-latest-small" && data.events.len() == ELSEWHERE_EVENTS && !options.tune;
    place.claim(&super::question(&data, options))?;
    let split = super::split(options, &place.state, data)?;
    let bundle = prepare(&place, &split)?;

    let config = options.config.as_deref();
    let ask = |exploring| {
        let tables = served::tables(&place.state, config, exploring)?;
        // A runtime for each platform: with it ends the last task that holds the folder's stores.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
        let served = runtime.block_on(served::ask(&place.state, &tables, &split));
        runtime.shutdown_timeout(DRAIN);
        served
    };
    let exploiting = ask(Exploring::Off)?;
    let exploring = ask(Exploring::On)?;

    let baselines = baselines(&split);
    let towers = towers(&split, &bundle);
    let mut rows: Vec<Row> = baselines.iter().map(|report| row(report, &[], None)).collect();
    rows.push(row(&towers, &baselines, None));
    for (name, lists) in [
        ("served, miss, exploit only", exploiting.miss),
        ("served, hit, exploit only", exploiting.hit),
        ("served, miss, exploring", exploring.miss),
        ("served, hit, exploring", exploring.hit),
    ] {
        rows.push(row(&judge(name, &split, &lists), &baselines, Some(lists.facts)));
    }
    let elsewhere =
        |&(name, recall_at_100, ndcg_at_10): &(&'static str, f64, f64)| Elsewhere { name, recall_at_100, ndcg_at_10 };
    let outcome = Outcome {
        event: "evaluated",
        data: &split.train.name,
        protocol: protocol(options),
        cases: split.cases.len(),
        items: split.train.items.len(),
        training_events: split.train.events.len(),
        model_version: bundle.version().to_string(),
        rows,
        measured_elsewhere: if published { ELSEWHERE.iter().map(elsewhere).collect() } else { Vec::new() },
    };
    if options.json { print_json(&outcome) } else { print(&text(&outcome)) }
}

fn protocol(options: &EvalOptions) -> String {
    format!(
        "each visitor's {} first-touched item held out with everything after it, ties in file order; trained on the rest; \
         the whole catalogue without the visitor's history; lists of {LIMIT} asked of a running platform over HTTP at the time of the held-out event, a \
         visitor's first request a miss (origin: retrieval, ranking), the second a hit (edge: cached candidates, scored \
         there), without holdout and with deadlines too long to matter; intervals are 95 % of a paired bootstrap over \
         visitors",
        options.held_out()
    )
}

/// Trains on what is not held out and fills the folder with it, where that was not done before.
fn prepare(place: &Workplace, split: &Split) -> anyhow::Result<Bundle> {
    let state = &place.state;
    let bundle = super::bundle(state, &split.train)?;
    if state.filled_marker().exists() {
        note("attune: the folder of --work is trained and filled already");
        return Ok(bundle);
    }
    let log = EmbeddedEventLog::open(&state.event_log()).context("open the event log")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(fill::fill(&log, &split.train, super::now()))?;
    std::fs::write(state.filled_marker(), "data\n").context("write FILLED")?;
    Ok(bundle)
}

fn baselines(split: &Split) -> Vec<Report> {
    let bar = progress_bar("judging the baselines", 3);
    let items = split.train.items.len();
    let random = evaluation::evaluate("random", split, &Quiet, |_, case| evaluation::random(items, 1, case));
    bar.inc(1);
    let popularity = Popularity::new(&split.train);
    let popular = evaluation::evaluate("popularity", split, &Quiet, |_, _| popularity.recommend().to_vec());
    bar.inc(1);
    let knn = ItemKnn::new(&split.train, NEAREST);
    let name = format!("item-kNN ({NEAREST})");
    let nearest = evaluation::evaluate(&name, split, &Quiet, |window, _| knn.recommend(window));
    bar.finish_and_clear();
    vec![random, popular, nearest]
}

/// The user vector against every item, without a platform: what retrieval could find at best.
fn towers(split: &Split, bundle: &Bundle) -> Report {
    let table = ItemTable::new(bundle, &split.train.items);
    evaluation::evaluate("two towers alone, exact", split, &Quiet, |window, at| {
        let case = &split.cases[at];
        let attributes = &split.train.attributes[case.user];
        let input = UserInput { window, attributes, context: case.context, now: case.at };
        let vector = bundle.user_vector(&table, &input);
        let mut scores = vec![0.0; table.len()];
        attune_inference::score_rows(table.vectors(), table.dim(), &vector, &mut scores);
        let mut order: Vec<u32> = (0..table.len() as u32).collect();
        order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
        order.into_iter().map(ItemIx).collect()
    })
}

fn judge(name: &str, split: &Split, lists: &Lists) -> Report {
    evaluation::evaluate(name, split, &Quiet, |_, case| lists.items[case].clone())
}

fn row(report: &Report, baselines: &[Report], requests: Option<Facts>) -> Row {
    let over = |baseline: &Report| Over {
        baseline: baseline.name.clone(),
        recall_at_100: table::difference(report, baseline, RECALL),
        ndcg_at_10: table::difference(report, baseline, NDCG),
    };
    Row {
        name: report.name.clone(),
        recall_at_100: table::mean(report, RECALL),
        ndcg_at_10: table::mean(report, NDCG),
        over: baselines.iter().map(over).collect(),
        requests,
    }
}

fn text(outcome: &Outcome<'_>) -> String {
    let mut figures: Vec<Vec<String>> = outcome
        .rows
        .iter()
        .map(|row| vec![row.name.clone(), table::plain(row.recall_at_100), table::plain(row.ndcg_at_10)])
        .collect();
    figures.extend(outcome.measured_elsewhere.iter().map(|row| {
        let name = format!("{} (measured elsewhere on this split)", row.name);
        vec![name, format!("{:.3}", row.recall_at_100), format!("{:.4}", row.ndcg_at_10)]
    }));
    let mut gains = Vec::new();
    for row in &outcome.rows {
        for over in &row.over {
            gains.push(vec![
                row.name.clone(),
                over.baseline.clone(),
                table::signed(over.recall_at_100),
                table::signed(over.ndcg_at_10),
            ]);
        }
    }
    let mut requests = Vec::new();
    for row in &outcome.rows {
        if let Some(facts) = &row.requests {
            let levels: Vec<String> = facts.levels.iter().map(|(level, count)| format!("{level}: {count}")).collect();
            requests.push(vec![
                row.name.clone(),
                facts.requests.to_string(),
                facts.as_meant.to_string(),
                facts.shorter_than_asked.to_string(),
                levels.join(", "),
                format!("{:.1} %", 100.0 * facts.explored),
            ]);
        }
    }
    format!(
        "{}: {} cases, {} items, trained on {} events, model {}\nprotocol: {}\n\n{}\n\n{}\n\n{}",
        outcome.data,
        outcome.cases,
        outcome.items,
        outcome.training_events,
        outcome.model_version,
        outcome.protocol,
        table::table(&["", "Recall@100 [95 %]", "NDCG@10 [95 %]"], &figures),
        table::table(&["difference", "to", "Recall@100 [95 %]", "NDCG@10 [95 %]"], &gains),
        table::table(&["requests", "sent", "as meant", "short", "by level", "explored"], &requests)
    )
}
