//! Taking a partition's contents out of a feature store, and putting them back.
//!
//! Whoever is the partition's only writer exports it in parts between its batches, and notes the effects of the batches
//! it stores meanwhile after them. Read in that order, where the last word about a key stands, the parts are the store as
//! it is when the totals are read: no batch waits for an export.
//! A restoration empties the partition first and sets its offsets last. Between these no batch is taken, and one that was
//! broken off is begun anew by whoever comes next.

mod file;
mod part;

pub use file::{
    CheckpointError, CheckpointFile, CheckpointWriter, Part as CheckpointPart, check_checkpoints, checkpoint_path,
};

use crate::{EffectBatch, OutcomeKey, StorageError, USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER, first_offset};
use async_trait::async_trait;
use attune_domain::{ItemIx, Uid, UserState};

/// What a store says about some keys of a partition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StorePart {
    /// None: there is no state any more.
    pub users: Vec<(Uid, Option<UserState>)>,
    pub fences: Vec<(Uid, u64)>,
    pub outcomes: Vec<(OutcomeKey, u8)>,
}

impl StorePart {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.fences.is_empty() && self.outcomes.is_empty()
    }

    /// What a batch leaves behind, evidence apart: that is in the totals.
    pub fn of_batch(batch: &EffectBatch) -> Self {
        let erased = batch.erased.iter().map(|(uid, _)| (*uid, None));
        let stored = batch.users.iter().map(|(uid, state)| (*uid, Some(state.clone())));
        Self { users: erased.chain(stored).collect(), fences: batch.erased.clone(), outcomes: batch.outcomes.clone() }
    }
}

/// Where the consumers of a partition stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// Next offset of [`USER_EVENTS_CONSUMER`].
    pub events: u64,
    /// Next offset of [`USER_UPDATES_CONSUMER`].
    pub updates: u64,
}

impl Positions {
    /// Of a store that knows nothing of the partition.
    pub fn first(partition: u16) -> Self {
        Self { events: first_offset(partition), updates: first_offset(partition) }
    }

    pub(crate) fn check(self, found: Self) -> Result<(), StorageError> {
        let conflict = |expected, found| Err(StorageError::Conflict { expected, found });
        match (self.events == found.events, self.updates == found.updates) {
            (true, true) => Ok(()),
            (false, _) => conflict(self.events, found.events),
            (true, false) => conflict(self.updates, found.updates),
        }
    }

    pub(crate) fn by_consumer(self) -> [(&'static str, u64); 2] {
        [(USER_EVENTS_CONSUMER, self.events), (USER_UPDATES_CONSUMER, self.updates)]
    }
}

/// Posterior sums of a partition and the offsets they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTotals {
    pub positions: Positions,
    /// The half-life that the sums are of.
    pub half_life_ms: u64,
    /// Each item's sum in the bytes of the store.
    pub sums: Vec<(ItemIx, [u8; 24])>,
}

/// Where an export stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportCursor {
    pub(crate) family: u8,
    pub(crate) at: Vec<u8>,
    /// Life of the server whose cursor it is.
    pub(crate) life: String,
}

/// A restoration that has begun. While another begins, this one is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restoration {
    pub(crate) partition: u16,
    pub(crate) token: u64,
}

/// A feature store whose partitions can be taken out and put back.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// About `max` keys from the cursor on, and where to go on; the default cursor begins. Keys that are written
    /// meanwhile may be among them or not. A store that was replaced under the cursor is a [`StorageError::Conflict`].
    async fn export(
        &self,
        partition: u16,
        from: &ExportCursor,
        max: usize,
    ) -> Result<(StorePart, Option<ExportCursor>), StorageError>;

    /// Sums and offsets of one moment.
    async fn totals(&self, partition: u16) -> Result<PartitionTotals, StorageError>;

    /// Whether a restoration has begun and not ended: then no batch is taken.
    async fn is_restoring(&self, partition: u16) -> Result<bool, StorageError>;

    /// Empties a partition that stands at `expected`; another position is a [`StorageError::Conflict`]. `token` tells
    /// this restoration from every other.
    async fn begin_restore(&self, partition: u16, expected: Positions, token: u64)
    -> Result<Restoration, StorageError>;

    /// Puts a part back over what parts before it said. Harmless to repeat.
    async fn restore(&self, restoration: &Restoration, part: StorePart) -> Result<(), StorageError>;

    /// From here on batches are taken again.
    async fn end_restore(&self, restoration: &Restoration, totals: PartitionTotals) -> Result<(), StorageError>;
}

/// Of a restoration that has ended or that another one took the place of, and of a batch during one.
pub(crate) fn restoring(partition: u16) -> StorageError {
    StorageError::Conflict { expected: first_offset(partition), found: first_offset(partition) }
}
