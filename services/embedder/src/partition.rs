//! One partition of the log: its events and attributes, applied in order by the one task that writes its visitors.

mod restore;
mod snapshot;

pub(crate) use restore::empty;

use crate::batch::{self, Effects, Placed};
use crate::processors::{self, bandit::DAY_MS};
use crate::records::{self, UserRecord};
use crate::{EmbedderConfig, EmbedderStats};
use attune_domain::{StateVersion, Uid};
use attune_storage::{
    Applied, Bounds, CheckpointPart, Clock, EventLog, FeatureStore, Positions, Record, StorageError, StorePart, Topic,
    USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER, first_offset,
};
use attune_telemetry::Telemetry;
use snapshot::Snapshots;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Whole days that outcomes are kept beyond the window in which they count: the window's ends lie within days.
const OUTCOME_MARGIN_DAYS: i64 = 2;
/// How often the log is asked where it ends.
const LOOK_AT_END: Duration = Duration::from_millis(500);

fn is_erased(record: &Record) -> bool {
    record.key.is_empty() && record.value.is_empty() && record.traceparent.is_empty()
}

/// What every partition's consumer works with.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) store: Arc<dyn FeatureStore>,
    pub(crate) config: EmbedderConfig,
    pub(crate) clock: Clock,
    pub(crate) stats: Arc<EmbedderStats>,
    pub(crate) applied: Applied,
    pub(crate) ends: Arc<tokio::sync::Mutex<Option<Ends>>>,
    pub(crate) telemetry: Option<Telemetry>,
}

/// Where the partitions ended.
pub(crate) struct Ends {
    bounds: Vec<Bounds>,
    at: Instant,
}

pub(crate) struct Partition {
    shared: Shared,
    partition: u16,
    /// Of the log; known once resumed.
    partitions: u16,
    /// Next offsets of `user-events` and `user-updates`; unknown at the start and after an error.
    next: Option<(u64, u64)>,
    /// Where it stood when that was last known.
    stood: Option<u64>,
    /// Where `user-events` ended when that was last known.
    end: Option<u64>,
    /// Day on which old outcomes were last dropped.
    tidied: Option<i64>,
    /// Once the log has said how many partitions there are.
    snapshots: Option<Snapshots>,
}

impl Partition {
    pub(crate) fn new(shared: Shared, partition: u16) -> Self {
        Self { shared, partition, partitions: 0, next: None, stood: None, end: None, tidied: None, snapshots: None }
    }

    /// Consumes until told to stop. Goes on after failures that may pass; returns those that cannot.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), StorageError> {
        let result = self.consume(&mut stop).await;
        self.shared.stats.left(self.partition);
        result
    }

    async fn consume(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), StorageError> {
        let (first, longest) = (self.shared.config.retry_first.get(), self.shared.config.retry_longest.get());
        let mut pause = first;
        loop {
            let step = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                step = self.step() => step,
            };
            match step {
                Ok(()) => pause = first,
                // A conflict after an answer that was lost, or another consumer's work: the stored offset says how far
                // the partition really is.
                Err(e) if e.is_retryable() || matches!(e, StorageError::Conflict { .. }) => {
                    self.stood = self.next.take().map(|(events, _)| events).or(self.stood);
                    self.tell_what_waits().await;
                    self.snapshots.iter_mut().for_each(Snapshots::give_up);
                    EmbedderStats::add(&self.shared.stats.retries, 1);
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(longest);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Applies what either topic has, a batch of each; waits for records where neither has any.
    async fn step(&mut self) -> Result<(), StorageError> {
        let (events, updates) = match self.next {
            Some(next) => next,
            None => self.resume().await?,
        };
        self.checkpoint(events, updates).await;
        let log = Arc::clone(&self.shared.log);
        let max = self.shared.config.batch_records;
        // Read in turn: of two reads in a race, one that is slow because it has much to bring would be given up each
        // time the other comes back with nothing.
        let found = log.read(Topic::UserEvents, events, max, Duration::ZERO).await?;
        let has_events = !found.is_empty();
        if has_events {
            self.apply_events(events, updates, found).await?;
        }
        let (events, updates) = self.next.unwrap_or((events, updates));
        let found = log.read(Topic::UserUpdates, updates, max, Duration::ZERO).await?;
        if has_events || !found.is_empty() {
            return self.apply_updates(events, updates, found).await;
        }
        let due = self.snapshots.as_ref().and_then(Snapshots::pause);
        if self.snapshots.as_ref().is_some_and(Snapshots::is_taking) {
            return Ok(());
        }
        let wait = self.shared.config.poll_wait.get().min(due.unwrap_or(Duration::MAX));
        tokio::select! {
            found = log.read(Topic::UserEvents, events, max, wait) => self.apply_events(events, updates, found?).await,
            found = log.read(Topic::UserUpdates, updates, max, wait) => {
                self.apply_updates(events, updates, found?).await
            }
        }
    }

    async fn checkpoint(&mut self, events: u64, updates: u64) {
        let is_behind = self.behind(events) > 0;
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.advance(&self.shared, Positions { events, updates }, is_behind).await;
        }
    }

    /// Finds out how far the store has come, and brings back what it lost. The versions of the last batch are announced again: the process may have
    /// ended between storing it and saying so.
    async fn resume(&mut self) -> Result<(u64, u64), StorageError> {
        let part = self.part().await?;
        self.partitions = part.partitions;
        let stands = stands(&*self.shared.store, self.partition).await?;
        let Positions { events, updates } = restore::restored(&self.shared, part, stands).await?;
        self.look_at_end().await?;
        if self.snapshots.is_none() {
            self.snapshots = Some(Snapshots::new(&self.shared, part));
        }
        let first = first_offset(self.partition);
        let from = events.saturating_sub(self.shared.config.batch_records as u64).max(first);
        let last = match events - from {
            0 => Vec::new(),
            n => self.shared.log.read(Topic::UserEvents, from, n as usize, Duration::ZERO).await?,
        };
        let mut moved: Vec<_> = last
            .into_iter()
            .filter_map(|(offset, record)| {
                let uid = records::user_record(&record.value).ok()?.uid();
                Some((uid, processors::embed::version_after(offset), record.traceparent))
            })
            .collect();
        // The newest of each visitor.
        moved.reverse();
        let mut seen = HashSet::new();
        moved.retain(|(uid, ..)| seen.insert(*uid));
        moved.reverse();
        self.announce(moved).await?;
        self.next = Some((events, updates));
        Ok((events, updates))
    }

    async fn part(&self) -> Result<CheckpointPart, StorageError> {
        let partitions = self.shared.log.partitions(Topic::UserEvents).await?.len();
        Ok(CheckpointPart { partition: self.partition, partitions: u16::try_from(partitions).unwrap_or(u16::MAX) })
    }

    async fn apply_events(&mut self, from: u64, updates: u64, found: Vec<(u64, Record)>) -> Result<(), StorageError> {
        let full = found.len() >= self.shared.config.batch_records;
        let Some(next) = found.last().map(|(offset, _)| offset + 1) else {
            self.shared.stats.at(self.partition, 0, 0);
            return self.tidy().await;
        };
        let records = self.readable(Topic::UserEvents, found, records::user_record, UserRecord::uid).await?;
        let accepted = |placed: Option<&Placed<UserRecord>>| placed.map_or(0, |placed| placed.record.accepted_at());
        let (oldest, newest) = (accepted(records.first()), accepted(records.last()));
        let stats = Arc::clone(&self.shared.stats);
        stats.at(self.partition, self.behind(from), oldest);
        let window = self.shared.config.outcome_window.get();
        let effects = batch::events(&*self.shared.store, self.partition, records, from, next, window).await?;
        let (erased, applied, void) = (effects.batch.erased.len(), effects.applied, effects.void);
        let evidence = &effects.batch.posteriors;
        let impressions = evidence.iter().filter(|change| change.impressions > 0.0).count();
        let rewards = evidence.iter().filter(|change| change.rewards > 0.0).count();
        self.commit(effects).await?;
        self.next = Some((next, updates));
        self.shared.applied.report(next);
        for (counter, n) in [
            (&stats.events, applied),
            (&stats.void, void),
            (&stats.erased, erased),
            (&stats.impressions, impressions),
            (&stats.rewards, rewards),
        ] {
            EmbedderStats::add(counter, n);
        }
        self.look_at_end().await?;
        let behind = self.behind(next);
        stats.at(self.partition, behind, if full || behind > 0 { newest } else { 0 });
        if full { Ok(()) } else { self.tidy().await }
    }

    /// While the store is away records go on coming, and whoever looks must see them wait.
    async fn tell_what_waits(&mut self) {
        let Some(stood) = self.stood else { return };
        // Where the log is away too, what was told last stays.
        if self.look_at_end().await.is_err() || self.behind(stood) == 0 {
            return;
        }
        let Ok(first) = self.shared.log.read(Topic::UserEvents, stood, 1, Duration::ZERO).await else { return };
        let accepted = first.first().map(|(_, record)| records::accepted_at(&record.value));
        self.shared.stats.at(self.partition, self.behind(stood), accepted.unwrap_or(0));
    }

    fn behind(&self, next: u64) -> u64 {
        self.end.map_or(0, |end| end.saturating_sub(next))
    }

    async fn look_at_end(&mut self) -> Result<(), StorageError> {
        // One asks for all; meanwhile the others go on with what they know.
        let asked = match (self.shared.ends.try_lock(), self.end) {
            (Ok(asked), _) => Some(asked),
            (Err(_), Some(_)) => None,
            (Err(_), None) => Some(self.shared.ends.lock().await),
        };
        let Some(mut asked) = asked else { return Ok(()) };
        if asked.as_ref().is_none_or(|asked| asked.at.elapsed() >= LOOK_AT_END) {
            let bounds = self.shared.log.partitions(Topic::UserEvents).await?;
            *asked = Some(Ends { bounds, at: Instant::now() });
        }
        let bounds = asked.as_ref().and_then(|asked| asked.bounds.get(usize::from(self.partition)));
        self.end = bounds.map(|bounds| bounds.end).or(self.end);
        Ok(())
    }

    async fn apply_updates(&mut self, events: u64, from: u64, found: Vec<(u64, Record)>) -> Result<(), StorageError> {
        let Some(next) = found.last().map(|(offset, _)| offset + 1) else { return Ok(()) };
        let records = self.readable(Topic::UserUpdates, found, records::user_attributes, |(uid, _)| *uid).await?;
        let effects = batch::attributes(&*self.shared.store, records, from, next).await?;
        let applied = effects.applied;
        self.commit(effects).await?;
        self.next = Some((events, next));
        EmbedderStats::add(&self.shared.stats.attributes, applied);
        Ok(())
    }

    /// Reads records; puts those that are none on the dead topic, durably.
    async fn readable<T>(
        &self,
        topic: Topic,
        found: Vec<(u64, Record)>,
        read: impl Fn(&bytes::Bytes) -> Result<T, String>,
        uid: impl Fn(&T) -> Uid,
    ) -> Result<Vec<Placed<T>>, StorageError> {
        let day = (self.shared.clock)().div_euclid(DAY_MS);
        let mut good = Vec::with_capacity(found.len());
        let mut dead = Vec::new();
        // A record of which nothing is left was erased.
        for (offset, record) in found.into_iter().filter(|(_, r)| !is_erased(r)) {
            let read = read(&record.value);
            match read.and_then(|read| records::belongs(uid(&read), offset, self.partitions).map(|()| read)) {
                Ok(read) => good.push(Placed { offset, traceparent: record.traceparent, record: read }),
                Err(reason) => dead.push(records::dead(topic, offset, reason, &record, day)),
            }
        }
        // One call each: a record of the largest size and its reason may fill an append.
        for record in dead {
            self.shared.log.append(Topic::UserEventsDead, vec![record]).await?;
            EmbedderStats::add(&self.shared.stats.dead, 1);
        }
        Ok(good)
    }

    async fn commit(&mut self, effects: Effects) -> Result<(), StorageError> {
        let taking = self.snapshots.as_mut().filter(|snapshots| snapshots.is_taking());
        let noted = taking.is_some().then(|| StorePart::of_batch(&effects.batch));
        self.shared.store.apply(effects.batch).await?;
        if let Some(snapshots) = taking {
            snapshots.note(noted).await;
        }
        self.announce(effects.moved).await
    }

    async fn announce(&self, moved: Vec<(Uid, StateVersion, String)>) -> Result<(), StorageError> {
        if moved.is_empty() {
            return Ok(());
        }
        self.shared.log.append(Topic::StateVersions, records::versions(&moved)).await.map(drop)
    }

    /// Drops outcomes that can count no more, once a day, and not while catching up: then old days still count.
    async fn tidy(&mut self) -> Result<(), StorageError> {
        let today = (self.shared.clock)().div_euclid(DAY_MS);
        if self.tidied == Some(today) {
            return Ok(());
        }
        let window = self.shared.config.outcome_window.get();
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX) / DAY_MS;
        self.shared.store.forget_outcomes_before(today.saturating_sub(window + OUTCOME_MARGIN_DAYS)).await?;
        self.tidied = Some(today);
        Ok(())
    }
}

pub(crate) async fn stands(store: &dyn FeatureStore, partition: u16) -> Result<Positions, StorageError> {
    let events = store.progress(USER_EVENTS_CONSUMER, partition).await?;
    let updates = store.progress(USER_UPDATES_CONSUMER, partition).await?;
    Ok(Positions { events, updates })
}
