//! What has happened, for the metrics.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times kept for whoever asks, so that nobody needs to.
const MAX_UNTOLD: usize = 4_096;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        #[derive(Debug, Default)]
        pub struct EmbedderStats {
            $($(#[$doc])* pub $name: AtomicU64,)+
            partitions: Mutex<BTreeMap<u16, Standing>>,
            checkpoints: Mutex<Checkpoints>,
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
    /// Partitions of a store that lost them, put back from a checkpoint.
    restored,
    /// Partitions of a store that lost them, without a checkpoint of use.
    replayed,
    /// Records whose effects came from checkpoints instead of the log.
    records_restored,
    /// Checkpoints that could not be written.
    checkpoints_failed,
}

/// What is known of checkpoints.
#[derive(Debug, Default)]
struct Checkpoints {
    bytes: BTreeMap<u16, u64>,
    /// Not yet told to whoever asks.
    took: Vec<Duration>,
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

    pub(crate) fn checkpointed(&self, partition: u16, bytes: u64, took: Duration) {
        let mut checkpoints = self.checkpoints.lock();
        checkpoints.bytes.insert(partition, bytes);
        checkpoints.took.push(took);
        checkpoints.took.truncate(MAX_UNTOLD);
    }

    pub(crate) fn restored(&self, records: u64, bytes: u64, partition: u16) {
        self.checkpoints.lock().bytes.insert(partition, bytes);
        Self::add(&self.restored, 1);
        self.records_restored.fetch_add(records, Ordering::Relaxed);
    }

    /// Bytes of the last checkpoints of this member's partitions.
    pub fn checkpoint_bytes(&self) -> u64 {
        self.checkpoints.lock().bytes.values().sum()
    }

    /// How long the checkpoints took since this was last asked.
    pub fn take_checkpoint_times(&self) -> Vec<Duration> {
        std::mem::take(&mut self.checkpoints.lock().took)
    }

    /// Says how many records a partition has yet to apply, and when the oldest that is read was accepted (0: none is).
    pub(crate) fn at(&self, partition: u16, behind: u64, waiting_since: u64) {
        self.partitions.lock().insert(partition, Standing { behind, waiting_since });
    }

    /// The partition is another member's now.
    pub(crate) fn left(&self, partition: u16) {
        self.partitions.lock().remove(&partition);
        self.checkpoints.lock().bytes.remove(&partition);
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
