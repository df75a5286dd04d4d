//! The posteriors a slate is sampled from: the feature store's, read every now and then.
//!
//! Always holds: a slate is sampled from one whole snapshot, which its hash names; while the store is away the last
//! snapshot stays, and its age is known.

use crate::telemetry::BanditMetrics;
use arc_swap::ArcSwap;
use attune_decision::Posteriors;
use attune_domain::PosteriorSnapshot;
use attune_storage::{FeatureStore, ObjectHash, StorageError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// A snapshot, ready to sample from, and the bytes its hash names: what a decision record refers to.
pub struct Current {
    pub posteriors: Posteriors,
    pub encoded: Bytes,
    snapshot: PosteriorSnapshot,
}

impl Current {
    /// Counts of items that do not exist would only cost memory.
    fn new(mut snapshot: PosteriorSnapshot) -> Self {
        snapshot.counts.retain(|counts| counts.item.is_known());
        let encoded = Bytes::from(Posteriors::encode(&snapshot));
        let posteriors = Posteriors::new(&snapshot, ObjectHash::of(&encoded).0);
        Self { posteriors, encoded, snapshot }
    }
}

pub struct PosteriorCache {
    store: Arc<dyn FeatureStore>,
    current: ArcSwap<Current>,
    /// When the store last confirmed the snapshot.
    read_at: Mutex<Option<Instant>>,
}

impl PosteriorCache {
    /// Begins with the prior alone.
    pub fn new(store: Arc<dyn FeatureStore>) -> Self {
        let prior = Current::new(PosteriorSnapshot::default());
        Self { store, current: ArcSwap::from_pointee(prior), read_at: Mutex::default() }
    }

    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Time since the store last confirmed the snapshot; `None` when it never has.
    pub fn age(&self) -> Option<Duration> {
        self.read_at.lock().map(|at| at.elapsed())
    }

    /// Reads the store once. On failure the last snapshot stays.
    pub async fn refresh(&self, patience: Duration) -> Result<(), StorageError> {
        let read = timeout(patience, self.store.posteriors()).await;
        let snapshot = read.unwrap_or(Err(StorageError::Unavailable))?;
        if self.current.load().snapshot.counts != snapshot.counts {
            self.current.store(Arc::new(Current::new(snapshot)));
        }
        *self.read_at.lock() = Some(Instant::now());
        Ok(())
    }

    /// Refreshes every `period` until told to stop.
    pub async fn keep(
        self: Arc<Self>,
        period: Duration,
        patience: Duration,
        metrics: BanditMetrics,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stopped| *stopped) => return,
                _ = ticks.tick() => {}
            }
            if self.refresh(patience).await.is_err() {
                metrics.poll_failed();
            }
            metrics.posterior_age(self.age());
        }
    }
}
