//! Recall as it is served: a few queries, repeated exactly on the generation that they searched.
//!
//! Always holds: a request only leaves its query behind, and waits for nothing; at most one query waits and one is
//! repeated at a time.

use crate::config::ShadowSection;
use crate::index::{Generation, Query, SearchError};
use crate::view::View;
use attune_insight::{Config, Insight, RecallAt, Report, ShadowSearch, Surroundings};
use attune_telemetry::catalogue::names;
use attune_telemetry::{Estimate, Telemetry};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

const AT: [(usize, RecallAt, &str); 3] =
    [(10, RecallAt::Ten, "10"), (100, RecallAt::Hundred, "100"), (1000, RecallAt::Thousand, "1000")];
/// How often the window of what is shown slides when no query comes.
const SHOW_EVERY: Duration = Duration::from_secs(30);

/// A query, and what it searched.
struct Left {
    vector: Vec<f32>,
    view: Arc<View>,
    generation: Arc<Generation>,
}

/// Where requests leave the queries that are to be repeated.
pub(crate) struct Shadow {
    share: f64,
    at_least: Duration,
    begun: Instant,
    queries: AtomicU64,
    /// Milliseconds since the beginning at which the last one was left.
    last: AtomicU64,
    waiting: Mutex<Option<Left>>,
    left: Notify,
}

impl Shadow {
    pub(crate) fn new(config: &ShadowSection) -> Self {
        Self {
            share: config.share,
            at_least: config.at_least_every.get(),
            begun: Instant::now(),
            queries: AtomicU64::new(0),
            last: AtomicU64::new(0),
            waiting: Mutex::new(None),
            left: Notify::new(),
        }
    }

    /// Leaves the query behind if its turn has come and none waits.
    pub(crate) fn offer(&self, vector: &[f32], view: &Arc<View>, generation: &Arc<Generation>) {
        let number = self.queries.fetch_add(1, Relaxed);
        // As good as drawn, and no generator to share between threads.
        let drawn = xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes()) as f64 <= self.share * u64::MAX as f64;
        let now = self.begun.elapsed().as_millis() as u64;
        let due = now.saturating_sub(self.last.load(Relaxed)) >= self.at_least.as_millis() as u64;
        if (drawn || due || number == 0)
            && !vector.is_empty()
            && let Some(mut waiting) = self.waiting.try_lock()
            && waiting.is_none()
        {
            self.last.store(now, Relaxed);
            let (view, generation) = (Arc::clone(view), Arc::clone(generation));
            *waiting = Some(Left { vector: vector.to_vec(), view, generation });
            self.left.notify_one();
        }
    }
}

/// Repeats what is left behind and shows recall, until told to stop.
pub(crate) async fn repeat(shadow: Arc<Shadow>, telemetry: Telemetry, mut stop: watch::Receiver<bool>) {
    let mut insight = Insight::new(Config::default(), telemetry.now()).expect("the default windows are sound");
    let mut shown = HashMap::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            () = shadow.left.notified() => {}
            () = tokio::time::sleep(SHOW_EVERY) => {}
        }
        let left = shadow.waiting.lock().take();
        let at = telemetry.now();
        insight.advance(at);
        if let Some(left) = left {
            let model = left.view.serving.bundle.version().code();
            let searched = tokio::task::spawn_blocking(move || recalls(&left)).await;
            for (k, recall) in searched.ok().and_then(Result::ok).into_iter().flatten() {
                insight.shadow_search(&ShadowSearch { at, model, k, recall });
            }
        }
        show(&insight.report(Surroundings::default()), &telemetry, &mut shown);
    }
}

fn show(report: &Report, telemetry: &Telemetry, shown: &mut HashMap<u64, [Estimate; 3]>) {
    for model in report.models.iter().filter_map(|report| report.model) {
        shown.entry(model).or_insert_with(|| {
            let version = format!("{model:016x}");
            AT.map(|(_, _, k)| telemetry.metrics().estimate(&names::MODEL_RECALL, &[&version, k]))
        });
    }
    for (&model, handles) in shown {
        // A model whose last query left the window has none.
        let report = report.models.iter().find(|report| report.model == Some(model));
        for (at, handle) in handles.iter().enumerate() {
            let (value, samples) = report.map_or((f64::NAN, 0), |r| (r.recall[at].value, r.recall[at].samples));
            handle.set(value, samples);
        }
    }
}

/// Share of the exact best that the index finds, at each depth.
fn recalls(left: &Left) -> Result<Vec<(RecallAt, f32)>, SearchError> {
    let query = |k| Query { vector: &left.vector, k, ef: None, allow: Some(&left.view.available), late: &|| false };
    let deepest = AT.iter().map(|(k, ..)| *k).max().unwrap_or(0);
    let exact = left.generation.search_exact(&query(deepest))?;
    let mut recalls = Vec::with_capacity(AT.len());
    for (k, at, _) in AT {
        let best: Vec<u32> = exact.iter().take(k).map(|hit| hit.id).collect();
        if best.is_empty() {
            continue;
        }
        let found: HashSet<u32> =
            left.generation.search(left.view.index.config(), &query(k))?.iter().map(|hit| hit.id).collect();
        let both = best.iter().filter(|id| found.contains(id)).count();
        recalls.push((at, both as f32 / best.len() as f32));
    }
    Ok(recalls)
}
