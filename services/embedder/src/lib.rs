//! The streaming tier: user events and attributes become states and posteriors in the feature store.
//!
//! One consumer of `user-events` runs three steps (`embed`, `context`, `bandit`) over each batch and stores their
//! effects with the offset after it in one durable step, so each record has its effect exactly once. Attributes come
//! from `user-updates` with an offset of their own, through the same task: it is the only writer of its visitors' states.
//! A log may have many partitions, shared out among the embedders of a group; each is consumed by a task of its own.
//! Always holds: states and posteriors are a pure function of the log up to the stored offsets; a record that cannot
//! be read goes to `user-events.dead` with the reason before its offset is passed, and stops nothing.
//! Whoever writes a visitor's erasure to `user-events` writes an empty attribute record to `user-updates` first.

#![warn(clippy::disallowed_macros)]

mod batch;
mod config;
pub mod insight;
pub mod own;
mod partition;
mod processors;
mod records;
mod stats;
pub mod telemetry;

pub use config::{DEFAULTS, EmbedderConfig, InsightConfig, OwnConfig};
pub use stats::EmbedderStats;

use attune_storage::{
    Applied, CheckpointPart, Clock, EventLog, FeatureStore, Membership, StorageError, Topic, USER_EVENTS_CONSUMER,
    checkpoint_path,
};
use attune_telemetry::Telemetry;
use partition::{Partition, Shared};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// The consumer. The feature store's contents are its work alone; those of one log share it by partitions.
pub struct Embedder {
    shared: Shared,
}

impl Embedder {
    pub fn new(log: Arc<dyn EventLog>, store: Arc<dyn FeatureStore>, config: EmbedderConfig, clock: Clock) -> Self {
        let (stats, applied) = (Arc::default(), Applied::default());
        Self { shared: Shared { log, store, config, clock, stats, applied, telemetry: None, ends: Arc::default() } }
    }

    /// With somebody to tell of checkpoints that cannot be used.
    pub fn telling(mut self, telemetry: Telemetry) -> Self {
        self.shared.telemetry = Some(telemetry);
        self
    }

    /// Empties the store's partitions, so that the next run fills them again. False where this store cannot.
    pub async fn empty_store(&self) -> Result<bool, StorageError> {
        let partitions = self.shared.log.partitions(Topic::UserEvents).await?.len();
        let partitions = u16::try_from(partitions).unwrap_or(u16::MAX);
        for partition in 0..partitions {
            let stands = partition::stands(&*self.shared.store, partition).await?;
            if !partition::empty(&self.shared, CheckpointPart { partition, partitions }, stands).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub fn stats(&self) -> Arc<EmbedderStats> {
        self.shared.stats.clone()
    }

    /// Consumes until told to stop. Goes on after failures that may pass; returns those that cannot.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), StorageError> {
        let Some(mut membership) = self.join(&mut shutdown).await? else { return Ok(()) };
        self.shared.applied = membership.applied();
        let mut stops: HashMap<u16, watch::Sender<bool>> = HashMap::new();
        let mut consuming = JoinSet::new();
        let every = self.shared.config.checkpoint_every.get();
        let mut leftovers = tokio::time::interval_at(Instant::now() + every, every);
        let mut is_assigned = false;
        let result = loop {
            let partitions = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break Ok(()),
                Some(ended) = consuming.join_next() => {
                    match ended.unwrap_or_else(failed) {
                        Ok(()) => continue,
                        Err(error) => break Err(error),
                    }
                }
                partitions = membership.changed() => Some(partitions),
                // Of partitions that are another member's now, nobody writes them anew.
                _ = leftovers.tick(), if is_assigned => None,
            };
            let Some(partitions) = partitions else {
                self.remove_checkpoints(|partition| !stops.contains_key(&partition)).await;
                continue;
            };
            is_assigned = true;
            stops.retain(|partition, stop| {
                let stays = partitions.contains(partition);
                if !stays {
                    stop.send_replace(true);
                }
                stays
            });
            for partition in partitions {
                stops.entry(partition).or_insert_with(|| {
                    let (stop, stopping) = watch::channel(false);
                    let consumer = Partition::new(self.shared.clone(), partition);
                    consuming.spawn(consumer.run(stopping));
                    stop
                });
            }
        };
        for stop in stops.values() {
            stop.send_replace(true);
        }
        while let Some(ended) = consuming.join_next().await {
            ended.unwrap_or_else(failed)?;
        }
        result
    }

    async fn remove_checkpoints(&self, is_left: impl Fn(u16) -> bool) {
        let Some(folder) = self.shared.config.checkpoints().map(ToOwned::to_owned) else { return };
        let Ok(partitions) = self.shared.log.partitions(Topic::UserEvents).await else { return };
        let partitions =
            (0..u16::try_from(partitions.len()).unwrap_or(u16::MAX)).filter(|&partition| is_left(partition));
        let partitions: Vec<u16> = partitions.collect();
        let removing = tokio::task::spawn_blocking(move || {
            for partition in partitions {
                // One that is not there is as good; one that stays is tried again.
                let _gone = std::fs::remove_file(checkpoint_path(&folder, partition));
            }
        });
        let _ended = removing.await;
    }

    /// None when told to stop before the log could be reached.
    async fn join(&self, shutdown: &mut watch::Receiver<bool>) -> Result<Option<Membership>, StorageError> {
        let mut pause = self.shared.config.retry_first.get();
        loop {
            let joined = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return Ok(None),
                joined = self.shared.log.join(USER_EVENTS_CONSUMER) => joined,
            };
            match joined {
                Err(e) if e.is_retryable() => {
                    EmbedderStats::add(&self.shared.stats.retries, 1);
                    tokio::select! {
                        _ = shutdown.wait_for(|stop| *stop) => return Ok(None),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(self.shared.config.retry_longest.get());
                }
                joined => return joined.map(Some),
            }
        }
    }
}

fn failed(error: JoinError) -> Result<(), StorageError> {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => Err(StorageError::Io(error.to_string())),
    }
}
