//! Measures the index on the vectors of a really trained model: `index DATA [BUNDLE]` reads an importable data set,
//! trains on it (or takes the bundle, or saves a new one there), and prints recall@100 against exact search, with the
//! time of a search beside that of an exact scan of the same items in the same run. Exits 1 below 0.98.

use attune_dataset::{Source, detect, import};
use attune_domain::{Context, UserAttributes, UserWindow, WindowEvent};
use attune_identity::SubjectKey;
use attune_model::{Bundle, ItemTable, Quiet, TrainConfig, UserInput};
use attune_retrieval::index::{IndexConfig, Query, VectorIndex};
use std::path::{Path, PathBuf};
use std::time::Instant;

const K: usize = 100;
const FLOOR: f64 = 0.98;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let Some(path) = arguments.next() else { anyhow::bail!("want a data set, as in index ml-latest-small [BUNDLE]") };
    let Some(format) = detect(&path) else { anyhow::bail!("{} is in no known format", path.display()) };
    let (data, _) = import(&Source { path, format }, &SubjectKey::new(1, [7; 32]), &attune_dataset::NoProgress)?;
    let bundle = match arguments.next() {
        Some(folder) if Path::exists(&folder) => Bundle::load(&folder)?,
        folder => {
            let bundle = attune_model::train(&data, &TrainConfig::default(), &Quiet)?;
            if let Some(folder) = folder {
                bundle.save(&folder)?;
            }
            bundle
        }
    };
    let items = ItemTable::new(&bundle, &data.items);
    let mut windows = vec![UserWindow::default(); data.users.len()];
    for event in &data.events {
        let key = attune_domain::EventKey(event.occurred_at as u64 ^ u64::from(event.item.0));
        let (occurred_at, item, kind, value) = (event.occurred_at, event.item, event.kind, event.value);
        windows[event.user as usize].insert(WindowEvent { occurred_at, key, item, kind, value });
    }
    let now = data.events.last().map_or(0, |event| event.occurred_at);
    let attributes = UserAttributes::default();
    let queries: Vec<Vec<f32>> = windows
        .iter()
        .take(500)
        .map(|window| UserInput { window, attributes: &attributes, context: Context::DEFAULT, now })
        .map(|input| bundle.user_vector(&items, &input))
        .collect();

    let index = VectorIndex::seeded(items.dim(), IndexConfig::default(), items.vectors())?;
    let begun = Instant::now();
    index.merge();
    let built = begun.elapsed();
    let now = index.pin();
    println!(
        "{} items of {} dimensions, {} in the graph, built in {built:.1?}",
        now.len(),
        items.dim(),
        now.in_graphs()
    );
    let query = |vector| Query { vector, k: K, ef: None, allow: None, late: &|| false };
    let begun = Instant::now();
    let exact = queries.iter().map(|vector| now.search_exact(&query(vector))).collect::<Result<Vec<_>, _>>()?;
    let scan = begun.elapsed() / queries.len() as u32;
    let mut best = 0.0f64;
    for ef in [100, 150, 200, 256, 300, 400] {
        let begun = Instant::now();
        let ask = |vector| now.search(index.config(), &Query { ef: Some(ef), ..query(vector) });
        let hits = queries.iter().map(|vector| ask(vector)).collect::<Result<Vec<_>, _>>()?;
        let took = begun.elapsed() / queries.len() as u32;
        let found: usize =
            exact.iter().zip(&hits).map(|(exact, hits)| exact.iter().filter(|hit| hits.contains(hit)).count()).sum();
        let recall = found as f64 / (queries.len() * K) as f64;
        let times = scan.as_secs_f64() / took.as_secs_f64();
        println!("ef {ef}: recall@{K} {recall:.4}, {took:.0?} a search, exact scan {scan:.0?} ({times:.1} times that)");
        best = best.max(recall);
    }
    if best < FLOOR {
        eprintln!("below the floor of {FLOOR}");
        std::process::exit(1);
    }
    Ok(())
}
