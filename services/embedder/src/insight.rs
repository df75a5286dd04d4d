//! The processor `insight`: business, content, embedding, bandit and model metrics from the stream of events.
//!
//! A consumer of its own over every partition of `user-events`, beside the one that keeps the feature store: what it is
//! slow at or loses touches no visitor. Each process of a group computes all of it, so read the metrics of one.
//! Always holds: an event counts once, also through `kill -9`, because positions and counts are one file
//! (`checkpoint`); a moment's metrics do not depend on how far behind it was computed (`lanes`); memory is bounded.
//! An item counts as seen before where this consumer remembers that the visitor was shown it (`seen`): the visitor's
//! state knows only what was acted on, which no answer shows again.

mod checkpoint;
mod export;
mod items;
mod lanes;
mod reads;
mod seen;

use crate::InsightConfig;
use crate::processors::insight::{self as processor, Facts};
use anyhow::Context as _;
use attune_domain::{LoggedEvent, ModelVersion, PosteriorSnapshot, Segment, Uid, UnixMillis, UserState};
use attune_insight::{Config, Insight, Surroundings};
use attune_serving::SharedServing;
use attune_storage::{Bounds, Clock, EventLog, FeatureStore, StorageError, Topic, partition_of};
use attune_telemetry::{CheckpointIgnored, Failure, Telemetry};
use checkpoint::Checkpoint;
use export::{Exporter, Observed};
use items::Items;
use lanes::{Lanes, Taken};
use parking_lot::Mutex;
use reads::Reads;
use seen::Seen;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Records between two looks at the clock.
const BATCH: usize = 512;
const RETRY: Duration = Duration::from_millis(500);
/// Longest wait for a record.
const WAIT: Duration = Duration::from_secs(1);

/// What the consumer stands on.
#[derive(Clone)]
pub struct InsightDeps {
    pub log: Arc<dyn EventLog>,
    pub store: Arc<dyn FeatureStore>,
    /// The live model; without it there are no metrics of embeddings and features.
    pub serving: Option<SharedServing>,
    pub telemetry: Telemetry,
    pub clock: Clock,
}

/// Consumes until told to stop, and leaves a checkpoint.
pub async fn run(config: InsightConfig, deps: InsightDeps, stop: watch::Receiver<bool>) {
    match deps.serving.clone() {
        Some(serving) => {
            let following = attune_serving::follow(serving, Arc::clone(&deps.log), |_| (), stop.clone());
            tokio::join!(following, consume(config, deps, stop));
        }
        None => consume(config, deps, stop).await,
    }
}

async fn consume(config: InsightConfig, deps: InsightDeps, mut stop: watch::Receiver<bool>) {
    let folder = Some(config.folder.clone()).filter(|folder| !folder.as_os_str().is_empty());
    let read = folder.map(|folder| Checkpoint::read(&folder));
    let begins = match &read {
        Some(_) => Begin::Start,
        None => Begin::End,
    };
    let mut ignored = matches!(read, Some(Err(_)));
    let checkpoint = read.and_then(Result::ok).flatten();
    let mut consumer = Consumer::new(config, deps, checkpoint, &mut ignored);
    if ignored {
        consumer.deps.telemetry.log(&CheckpointIgnored { failure: Failure::DataLoss }, None);
    }
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {}
        () = consumer.consume(begins) => {}
    }
    if let Some(saving) = consumer.saving() {
        saving();
    }
}

/// Has the next start compute from this time on, or from the log's start. Gives how many records that will read.
pub async fn rewind(folder: &Path, log: &dyn EventLog, from: Option<UnixMillis>) -> anyhow::Result<u64> {
    let bounds = log.partitions(Topic::UserEvents).await.context("read the event log")?;
    let Some(at) = from else {
        checkpoint::remove(folder).context("remove the checkpoint")?;
        return Ok(bounds.iter().map(|bounds| bounds.end - bounds.start).sum());
    };
    let mut checkpoint =
        Checkpoint { insight: Insight::new(Config::default(), 0).context("begin")?.to_bytes(), ..Default::default() };
    let mut events = 0;
    for bounds in bounds {
        let partition = partition_of(bounds.end);
        let offset = log.offset_at(Topic::UserEvents, partition, at).await.context("find the time in the event log")?;
        checkpoint.positions.insert(partition, offset);
        events += bounds.end - offset;
    }
    checkpoint.write(folder).context("write the checkpoint")?;
    Ok(events)
}

/// Where a partition begins that no checkpoint knows.
#[derive(Debug, Clone, Copy)]
enum Begin {
    Start,
    End,
}

struct Consumer {
    config: InsightConfig,
    deps: InsightDeps,
    /// Shared with the thread that computes a report or writes a checkpoint, and waited for meanwhile.
    state: Arc<Mutex<State>>,
    items: Items,
    reads: Reads,
    /// The model that the baselines are of.
    model: Option<ModelVersion>,
    observed: Observed,
    exporter: Option<Exporter>,
    exported: Option<Instant>,
    saved: Instant,
    /// Nothing is saved before the first record could be read.
    begun: bool,
}

/// What a checkpoint holds.
struct State {
    insight: Insight,
    seen: Seen,
    /// Next offset of each partition.
    positions: BTreeMap<u16, u64>,
}

impl Consumer {
    fn new(config: InsightConfig, deps: InsightDeps, checkpoint: Option<Checkpoint>, ignored: &mut bool) -> Self {
        let (observed, most) = (Observed::new(&deps.telemetry), config.seen_pairs);
        let mut reads = Reads::new(config.sample_one_in);
        let serving = deps.serving.as_ref().map(|serving| serving.load_full());
        let model = serving.as_ref().map(|serving| serving.bundle.version().clone());
        let baselines = serving.map(|serving| reads.baselines(&serving.bundle)).unwrap_or_default();
        let settings = Config { baselines, ..Config::default() };
        let restored = checkpoint.and_then(|checkpoint| {
            let insight = Insight::from_bytes(settings.clone(), &checkpoint.insight);
            *ignored |= insight.is_err();
            let seen = Seen::restore(checkpoint.seen, most);
            Some((State { insight: insight.ok()?, seen, positions: checkpoint.positions }, checkpoint.categories))
        });
        let (state, names) = restored.unwrap_or_else(|| {
            // The first record moves the stream's time to where it belongs.
            // A model whose baselines are not sound has no drift to tell.
            let insight = Insight::new(settings, 0).or_else(|_| Insight::new(Config::default(), 0));
            let insight = insight.expect("the default windows are sound");
            (State { insight, seen: Seen::new(most), positions: BTreeMap::new() }, Vec::new())
        });
        let (state, items) = (Arc::new(Mutex::new(state)), Items::new(deps.serving.clone(), names));
        let (exporter, exported, saved) = (None, None, Instant::now());
        Self { config, deps, state, items, reads, model, observed, exporter, exported, saved, begun: false }
    }

    async fn consume(&mut self, begins: Begin) {
        let mut lanes = None;
        loop {
            if let Err(error) = self.step(&mut lanes, begins).await {
                if !error.is_retryable() {
                    // Positions may be of a log that is not there any more: begin where there is something.
                    lanes = None;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn step(&mut self, lanes: &mut Option<Lanes>, begins: Begin) -> Result<(), StorageError> {
        let lanes = match lanes {
            Some(lanes) => lanes,
            none => none.insert(self.begin(begins).await?),
        };
        lanes.fill(self.wait()).await?;
        let mut batch = Vec::new();
        while let Some(taken) = lanes.pop() {
            batch.push(taken);
            if batch.len() == BATCH {
                break;
            }
        }
        if batch.is_empty() && lanes.is_at_end() {
            self.state.lock().insight.advance((self.deps.clock)() - self.lateness());
            self.observed.lag.set(0.0);
        }
        let knows = |event: &LoggedEvent| !processor::is_decided(event) || self.items.knows(event.item);
        if !batch.iter().filter_map(|taken| taken.event.as_deref()).all(knows) {
            // While they cannot be read, the items are without an age and a category.
            let _unread = self.items.follow(&*self.deps.log).await;
        }
        self.take_in(batch).await;
        if self.exported.is_none_or(|at| at.elapsed() >= self.config.every.get()) {
            self.export().await?;
        }
        if self.saved.elapsed() >= self.config.checkpoint_every.get() {
            self.save_aside().await;
        }
        Ok(())
    }

    async fn begin(&mut self, begins: Begin) -> Result<Lanes, StorageError> {
        self.items.follow(&*self.deps.log).await?;
        let known = self.state.lock().positions.clone();
        let from = |bounds: Bounds| match (known.get(&partition_of(bounds.end)), begins) {
            (Some(&position), _) => position.clamp(bounds.start, bounds.end),
            (None, Begin::Start) => bounds.start,
            (None, Begin::End) => bounds.end,
        };
        let lanes = Lanes::start(Arc::clone(&self.deps.log), from).await?;
        self.state.lock().positions = lanes.positions().map(|offset| (partition_of(offset), offset)).collect();
        self.begun = true;
        Ok(lanes)
    }

    /// How long to wait for a record: not past the next report.
    fn wait(&self) -> Duration {
        let due = self.exported.map_or(Duration::ZERO, |at| self.config.every.get().saturating_sub(at.elapsed()));
        due.min(WAIT)
    }

    fn lateness(&self) -> UnixMillis {
        i64::try_from(self.config.lateness.get().as_millis()).unwrap_or(i64::MAX)
    }

    /// Counts a batch. What needs to be found out is found out first, however long that takes: then state and positions
    /// move in one step.
    async fn take_in(&mut self, batch: Vec<Taken>) {
        let visitors = self.visitors(&batch).await;
        let lateness = self.lateness();
        let now = (self.deps.clock)();
        let serving = self.items.serving();
        let state = &mut *self.state.lock();
        if let Some(serving) = serving.as_ref().filter(|serving| Some(serving.bundle.version()) != self.model.as_ref())
        {
            self.model = Some(serving.bundle.version().clone());
            // Baselines that are not sound leave those before.
            let _unsound = state.insight.set_baselines(self.reads.baselines(&serving.bundle));
        }
        for Taken { offset, event } in batch {
            if let Some(event) = event {
                self.observed.event(&event, now);
                state.insight.advance(event.accepted_at.saturating_sub(lateness));
                let facts = processor::is_decided(&event).then(|| {
                    let seen_before = state.seen.mark(processor::visitor(event.uid), event.item);
                    facts(&self.items, &event, visitors.get(&event.uid), seen_before)
                });
                processor::observe(&mut state.insight, &event, facts);
                if serving.is_some() {
                    self.reads.note(offset, &event, now);
                }
            }
            state.positions.insert(partition_of(offset), offset + 1);
        }
        if let Some(serving) = &serving {
            self.reads.look(&mut state.insight, &mut self.observed, serving, &visitors);
        }
    }

    /// States of the visitors that the batch tells about.
    async fn visitors(&self, batch: &[Taken]) -> HashMap<Uid, UserState> {
        let events = batch.iter().filter_map(|taken| taken.event.as_deref());
        let mut uids: Vec<Uid> = events.filter(|event| processor::is_decided(event)).map(|event| event.uid).collect();
        uids.sort_unstable();
        uids.dedup();
        if uids.is_empty() {
            return HashMap::new();
        }
        loop {
            match self.deps.store.load_users(&uids).await {
                Ok(states) => return uids.into_iter().zip(states).collect(),
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    async fn export(&mut self) -> Result<(), StorageError> {
        self.items.follow(&*self.deps.log).await?;
        // Without the store its beliefs are not known; everything else is.
        let beliefs = self.deps.store.posteriors().await.unwrap_or_else(|_| PosteriorSnapshot::default());
        let (catalogue, posteriors) = (self.items.available(), self.items.posteriors(&beliefs));
        let state = Arc::clone(&self.state);
        let computing = tokio::task::spawn_blocking(move || {
            let state = state.lock();
            let report = state.insight.report(Surroundings { catalogue: &catalogue, posteriors: &posteriors });
            (report, state.insight.size_bytes() + state.seen.size_bytes())
        });
        if let Ok((report, bytes)) = computing.await {
            let bytes = bytes + self.reads.size_bytes();
            Exporter::show(&mut self.exporter, &self.deps.telemetry, &report, &self.items, bytes);
        }
        self.exported = Some(Instant::now());
        Ok(())
    }

    async fn save_aside(&mut self) {
        self.saved = Instant::now();
        if let Some(saving) = self.saving() {
            // Where it failed the checkpoint before stays; the next one comes soon.
            let _failed = tokio::task::spawn_blocking(saving).await;
        }
    }

    /// Writes the checkpoint and says how long it took.
    fn saving(&self) -> Option<impl FnOnce() + Send + 'static> {
        let folder = Some(self.config.folder.clone()).filter(|folder| self.begun && !folder.as_os_str().is_empty())?;
        let (state, took) = (Arc::clone(&self.state), self.observed.checkpoint);
        let categories = self.items.names().to_vec();
        Some(move || {
            let begun = Instant::now();
            let checkpoint = {
                let state = state.lock();
                Checkpoint {
                    positions: state.positions.clone(),
                    categories,
                    seen: state.seen.generations(),
                    insight: state.insight.to_bytes(),
                }
            };
            if checkpoint.write(&folder).is_ok() {
                took.observe(begun.elapsed().as_secs_f64());
            }
        })
    }
}

fn facts(items: &Items, event: &LoggedEvent, state: Option<&UserState>, seen_before: bool) -> Facts {
    let at = event.request_id.map_or(event.accepted_at, |request| request.unix_millis());
    let category = items.category(event.item);
    Facts {
        item_age: items.age(event.item, at),
        category,
        arm: items::arm_of(category),
        popularity: items.serving().map_or(0.0, |serving| serving.items.popularity(event.item)),
        segment: state.map_or(Segment::New, |state| state.window.segment()),
        seen_before,
    }
}
