//! The streaming tier: user events and attributes become states and posteriors in the feature store.
//!
//! One consumer of `user-events` runs three steps (`embed`, `context`, `bandit`) over each batch and stores their
//! effects with the offset after it in one durable step, so each record has its effect exactly once. Attributes come
//! from `user-updates` with an offset of their own, through the same task: it is the only writer of states.
//! Always holds: states and posteriors are a pure function of the log up to the stored offsets; a record that cannot
//! be read goes to `user-events.dead` with the reason before its offset is passed, and stops nothing.
//! Whoever writes a visitor's erasure to `user-events` writes an empty attribute record to `user-updates` first.

#![warn(clippy::disallowed_macros)]

mod batch;
mod config;
pub mod own;
mod processors;
mod records;
mod stats;
pub mod telemetry;

pub use config::{DEFAULTS, EmbedderConfig, OwnConfig};
pub use stats::EmbedderStats;

use attune_storage::{
    Clock, EventLog, FeatureStore, Record, StorageError, Topic, USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER,
};
use batch::{Effects, Placed};
use processors::bandit::DAY_MS;
use records::UserRecord;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

fn is_erased(record: &Record) -> bool {
    record.key.is_empty() && record.value.is_empty() && record.traceparent.is_empty()
}

/// Whole days that outcomes are kept beyond the window in which they count: the window's ends lie within days.
const OUTCOME_MARGIN_DAYS: i64 = 2;

/// The consumer. It owns the feature store's contents; run one.
pub struct Embedder {
    log: Arc<dyn EventLog>,
    store: Arc<dyn FeatureStore>,
    config: EmbedderConfig,
    clock: Clock,
    stats: Arc<EmbedderStats>,
    /// Next offsets of `user-events` and `user-updates`; unknown at the start and after an error.
    next: Option<(u64, u64)>,
    /// Day on which old outcomes were last dropped.
    tidied: Option<i64>,
}

impl Embedder {
    pub fn new(log: Arc<dyn EventLog>, store: Arc<dyn FeatureStore>, config: EmbedderConfig, clock: Clock) -> Self {
        Self { log, store, config, clock, stats: Arc::default(), next: None, tidied: None }
    }

    pub fn stats(&self) -> Arc<EmbedderStats> {
        self.stats.clone()
    }

    /// Consumes until told to stop. Goes on after failures that may pass; returns those that cannot.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), StorageError> {
        let mut pause = self.config.retry_first.get();
        loop {
            let step = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                step = self.step() => step,
            };
            match step {
                Ok(()) => pause = self.config.retry_first.get(),
                // A conflict after an answer that was lost: the stored offset says how far it really came.
                Err(e) if e.is_retryable() || matches!(e, StorageError::Conflict { .. }) => {
                    self.next = None;
                    EmbedderStats::add(&self.stats.retries, 1);
                    tokio::select! {
                        _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(self.config.retry_longest.get());
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
        let max = self.config.batch_records;
        // Read in turn: of two reads in a race, one that is slow because it has much to bring would be given up each
        // time the other comes back with nothing.
        let found = self.log.read(Topic::UserEvents, events, max, Duration::ZERO).await?;
        let has_events = !found.is_empty();
        if has_events {
            self.apply_events(events, updates, found).await?;
        }
        let (events, updates) = self.next.unwrap_or((events, updates));
        let found = self.log.read(Topic::UserUpdates, updates, max, Duration::ZERO).await?;
        if has_events || !found.is_empty() {
            return self.apply_updates(events, updates, found).await;
        }
        let wait = self.config.poll_wait.get();
        tokio::select! {
            found = self.log.read(Topic::UserEvents, events, max, wait) => self.apply_events(events, updates, found?).await,
            found = self.log.read(Topic::UserUpdates, updates, max, wait) => {
                self.apply_updates(events, updates, found?).await
            }
        }
    }

    /// Finds out how far the store has come. The versions of the last batch are announced again: the process may have
    /// ended between storing it and saying so.
    async fn resume(&mut self) -> Result<(u64, u64), StorageError> {
        let events = self.store.progress(USER_EVENTS_CONSUMER).await?;
        let updates = self.store.progress(USER_UPDATES_CONSUMER).await?;
        let max = self.config.batch_records;
        let from = events.saturating_sub(max as u64);
        let last = match events {
            0 => Vec::new(),
            _ => self.log.read(Topic::UserEvents, from, (events - from) as usize, Duration::ZERO).await?,
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
        let mut seen = std::collections::HashSet::new();
        moved.retain(|(uid, ..)| seen.insert(*uid));
        moved.reverse();
        self.announce(moved).await?;
        self.next = Some((events, updates));
        Ok((events, updates))
    }

    async fn apply_events(&mut self, from: u64, updates: u64, found: Vec<(u64, Record)>) -> Result<(), StorageError> {
        let full = found.len() >= self.config.batch_records;
        let Some(next) = found.last().map(|(offset, _)| offset + 1) else {
            return self.tidy().await;
        };
        let records = self.readable(Topic::UserEvents, found, records::user_record).await?;
        let accepted = |placed: Option<&Placed<UserRecord>>| match placed.map(|placed| &placed.record) {
            Some(UserRecord::Event(event)) => u64::try_from(event.accepted_at).unwrap_or(0),
            _ => 0,
        };
        let (oldest, newest) = (accepted(records.first()), accepted(records.last()));
        self.stats.waiting_since.store(oldest, Ordering::Relaxed);
        let window = self.config.outcome_window.get();
        let effects = batch::events(self.store.as_ref(), records, from, next, window).await?;
        let stats = &self.stats;
        let (erased, applied, void) = (effects.batch.erased.len(), effects.applied, effects.void);
        let evidence = &effects.batch.posteriors;
        let impressions = evidence.iter().filter(|change| change.impressions > 0.0).count();
        let rewards = evidence.iter().filter(|change| change.rewards > 0.0).count();
        self.commit(effects).await?;
        self.next = Some((next, updates));
        for (counter, n) in [
            (&stats.events, applied),
            (&stats.void, void),
            (&stats.erased, erased),
            (&stats.impressions, impressions),
            (&stats.rewards, rewards),
        ] {
            EmbedderStats::add(counter, n);
        }
        let end = self.log.bounds(Topic::UserEvents).await?.end;
        self.stats.lag.store(end.saturating_sub(next), Ordering::Relaxed);
        self.stats.waiting_since.store(if end > next { newest } else { 0 }, Ordering::Relaxed);
        if full { Ok(()) } else { self.tidy().await }
    }

    async fn apply_updates(&mut self, events: u64, from: u64, found: Vec<(u64, Record)>) -> Result<(), StorageError> {
        let Some(next) = found.last().map(|(offset, _)| offset + 1) else { return Ok(()) };
        let records = self.readable(Topic::UserUpdates, found, records::user_attributes).await?;
        let effects = batch::attributes(self.store.as_ref(), records, from, next).await?;
        let applied = effects.applied;
        self.commit(effects).await?;
        self.next = Some((events, next));
        EmbedderStats::add(&self.stats.attributes, applied);
        Ok(())
    }

    /// Reads records; puts those that are none on the dead topic, durably.
    async fn readable<T>(
        &self,
        topic: Topic,
        found: Vec<(u64, Record)>,
        read: impl Fn(&bytes::Bytes) -> Result<T, String>,
    ) -> Result<Vec<Placed<T>>, StorageError> {
        let day = (self.clock)().div_euclid(DAY_MS);
        let mut good = Vec::with_capacity(found.len());
        let mut dead = Vec::new();
        // A record of which nothing is left was erased.
        for (offset, record) in found.into_iter().filter(|(_, r)| !is_erased(r)) {
            match read(&record.value) {
                Ok(read) => good.push(Placed { offset, traceparent: record.traceparent, record: read }),
                Err(reason) => dead.push(records::dead(topic, offset, reason, &record, day)),
            }
        }
        // One call each: a record of the largest size and its reason may fill an append.
        for record in dead {
            match self.log.append(Topic::UserEventsDead, vec![record]).await {
                Ok(_) => EmbedderStats::add(&self.stats.dead, 1),
                // Too large with its wrapping: it stays on its own topic, counted here.
                Err(StorageError::Invalid { .. }) => EmbedderStats::add(&self.stats.dead, 1),
                Err(e) => return Err(e),
            }
        }
        Ok(good)
    }

    async fn commit(&self, effects: Effects) -> Result<(), StorageError> {
        self.store.apply(effects.batch).await?;
        self.announce(effects.moved).await
    }

    async fn announce(
        &self,
        moved: Vec<(attune_domain::Uid, attune_domain::StateVersion, String)>,
    ) -> Result<(), StorageError> {
        if moved.is_empty() {
            return Ok(());
        }
        let records = moved.into_iter().map(|(uid, version, trace)| records::version(uid, version, trace)).collect();
        self.log.append(Topic::StateVersions, records).await.map(drop)
    }

    /// Drops outcomes that can count no more, once a day, and not while catching up: then old days still count.
    async fn tidy(&mut self) -> Result<(), StorageError> {
        let today = (self.clock)().div_euclid(DAY_MS);
        if self.tidied == Some(today) {
            return Ok(());
        }
        let window = i64::try_from(self.config.outcome_window.get().as_millis()).unwrap_or(i64::MAX) / DAY_MS;
        self.store.forget_outcomes_before(today.saturating_sub(window + OUTCOME_MARGIN_DAYS)).await?;
        self.tidied = Some(today);
        Ok(())
    }
}
