//! States, sums and offsets as maps under one lock.

use crate::checkpoints::restoring;
use crate::decay::{Decay, Posteriors};
use crate::progress::Progress;
use crate::{Checkpoints, EffectBatch, FeatureOptions, FeatureStore, OutcomeKey, StorageError, partition_of};
use async_trait::async_trait;
use attune_domain::{ItemIx, PosteriorSnapshot, RequestId, Uid, UserState};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

pub struct MemoryFeatureStore {
    pub(super) state: Mutex<State>,
    pub(super) progress: Progress,
    pub(super) decay: Decay,
    pub(super) options: FeatureOptions,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) users: HashMap<Uid, UserState>,
    pub(super) posteriors: Posteriors,
    pub(super) outcomes: BTreeMap<OutcomeKey, u8>,
    pub(super) fences: HashMap<Uid, u64>,
    /// Token of a restoration that has not ended.
    pub(super) restoring: Option<u64>,
}

impl MemoryFeatureStore {
    pub fn new(options: FeatureOptions) -> Self {
        let decay = Decay::new(options.half_life);
        Self { state: Mutex::default(), progress: Progress::new(BTreeMap::new()), decay, options }
    }
}

#[async_trait]
impl FeatureStore for MemoryFeatureStore {
    async fn load_users(&self, uids: &[Uid]) -> Result<Vec<UserState>, StorageError> {
        let state = self.state.lock();
        Ok(uids.iter().map(|uid| state.users.get(uid).cloned().unwrap_or_default()).collect())
    }

    async fn wait_applied(&self, consumer: &str, offset: u64, wait: Duration) -> Result<u64, StorageError> {
        Ok(self.progress.wait(consumer, offset, wait).await)
    }

    async fn progress(&self, consumer: &str, partition: u16) -> Result<u64, StorageError> {
        Ok(self.progress.get(consumer, partition))
    }

    async fn posteriors(&self) -> Result<PosteriorSnapshot, StorageError> {
        let state = self.state.lock();
        Ok(state.posteriors.snapshot(self.decay, (self.options.clock)()))
    }

    async fn load_outcomes(&self, _partition: u16, keys: &[OutcomeKey]) -> Result<Vec<u8>, StorageError> {
        let state = self.state.lock();
        Ok(keys.iter().map(|key| state.outcomes.get(key).copied().unwrap_or(0)).collect())
    }

    async fn fences(&self, uids: &[Uid]) -> Result<Vec<Option<u64>>, StorageError> {
        let state = self.state.lock();
        Ok(uids.iter().map(|uid| state.fences.get(uid).copied()).collect())
    }

    async fn apply(&self, batch: EffectBatch) -> Result<(), StorageError> {
        batch.check()?;
        let mut state = self.state.lock();
        self.progress.check(&batch)?;
        if state.restoring.is_some() {
            return Err(restoring(partition_of(batch.next_offset)));
        }
        for (uid, offset) in batch.erased {
            let fence = state.fences.entry(uid).or_default();
            *fence = offset.max(*fence);
            state.users.remove(&uid);
        }
        state.users.extend(batch.users);
        state.outcomes.extend(batch.outcomes);
        let sums = state.posteriors.changed(self.decay, partition_of(batch.next_offset), &batch.posteriors);
        state.posteriors.0.extend(sums);
        self.progress.set(batch.consumer, batch.next_offset);
        Ok(())
    }

    async fn forget_outcomes_before(&self, day: i64) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        let first = OutcomeKey { day, request: RequestId([0; 16]), item: ItemIx(0) };
        state.outcomes = state.outcomes.split_off(&first);
        Ok(())
    }

    /// Outcomes are kept without their partition, so of a log with one.
    fn checkpoints(&self, partitions: u16) -> Option<&dyn Checkpoints> {
        (partitions == 1).then_some(self)
    }

    async fn user_count(&self) -> Result<u64, StorageError> {
        Ok(self.state.lock().users.len() as u64)
    }
}
