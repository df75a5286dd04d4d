//! What has happened, for the metrics.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        #[derive(Debug, Default)]
        pub struct EmbedderStats {
            $($(#[$doc])* pub $name: AtomicU64,)+
            partitions: Mutex<BTreeMap<u16, Standing>>,
        }
    };
}
counters! {
    /// Events applied to a state.
    events,
    /// Attribute records applied to a state.
    attributes,
    /// Records of erased visitors, ignored.
    void,
    /// Visitors erased.
    erased,
    /// Records that could not be processed and went to the dead topic.
    dead,
    /// Impressions counted for posteriors.
    impressions,
    /// Rewards counted for posteriors.
    rewards,
    /// Steps repeated because a store failed.
    retries,
}

/// Where a partition's consumer stands, as of its last step.
#[derive(Debug, Clone, Copy)]
struct Standing {
    behind: u64,
    waiting_since: u64,
}

impl EmbedderStats {
    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// Says how many records a partition has yet to apply, and when the oldest that is read was accepted (0: none is).
    pub(crate) fn at(&self, partition: u16, behind: u64, waiting_since: u64) {
        self.partitions.lock().insert(partition, Standing { behind, waiting_since });
    }

    /// The partition is another member's now.
    pub(crate) fn left(&self, partition: u16) {
        self.partitions.lock().remove(&partition);
    }

    /// Records of user-events that are not yet applied, by partition.
    pub fn behind(&self) -> Vec<(u16, u64)> {
        self.partitions.lock().iter().map(|(partition, standing)| (*partition, standing.behind)).collect()
    }

    /// Records of user-events that are not yet applied, over this member's partitions.
    pub fn lag(&self) -> u64 {
        self.partitions.lock().values().map(|standing| standing.behind).sum()
    }

    /// When the oldest record that is read but not yet applied was accepted, in Unix milliseconds; none when none waits.
    pub fn waiting_since(&self) -> Option<u64> {
        self.partitions.lock().values().map(|standing| standing.waiting_since).filter(|&since| since > 0).min()
    }
}
