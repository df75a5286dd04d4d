//! The maps, in the order of their keys.

use super::features::{MemoryFeatureStore, State};
use crate::checkpoints::restoring;
use crate::decay::{Decay, Decayed, Posteriors};
use crate::{Checkpoints, ExportCursor, PartitionTotals, Positions, Restoration, StorageError, StorePart};
use async_trait::async_trait;
use std::time::Duration;

#[async_trait]
impl Checkpoints for MemoryFeatureStore {
    /// All at once: who has it all in memory has room for a copy.
    async fn export(
        &self,
        _partition: u16,
        _from: &ExportCursor,
        _max: usize,
    ) -> Result<(StorePart, Option<ExportCursor>), StorageError> {
        let state = self.state.lock();
        let part = StorePart {
            users: state.users.iter().map(|(uid, state)| (*uid, Some(state.clone()))).collect(),
            fences: state.fences.iter().map(|(uid, fence)| (*uid, *fence)).collect(),
            outcomes: state.outcomes.iter().map(|(key, bits)| (*key, *bits)).collect(),
        };
        Ok((part, None))
    }

    async fn totals(&self, partition: u16) -> Result<PartitionTotals, StorageError> {
        let state = self.state.lock();
        let sums = state.posteriors.0.iter().filter(|((_, of), _)| *of == partition);
        Ok(PartitionTotals {
            positions: self.progress.positions(partition),
            half_life_ms: self.decay.half_life_ms() as u64,
            sums: sums.map(|((item, _), sum)| (*item, sum.to_bytes())).collect(),
        })
    }

    async fn is_restoring(&self, _partition: u16) -> Result<bool, StorageError> {
        Ok(self.state.lock().restoring.is_some())
    }

    async fn begin_restore(
        &self,
        partition: u16,
        expected: Positions,
        token: u64,
    ) -> Result<Restoration, StorageError> {
        let mut state = self.state.lock();
        self.progress.check_positions(partition, expected)?;
        *state = State { restoring: Some(token), ..State::default() };
        self.progress.set_positions(Positions::first(partition));
        Ok(Restoration { partition, token })
    }

    async fn restore(&self, restoration: &Restoration, part: StorePart) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        state.check(restoration)?;
        for (uid, user) in part.users {
            match user {
                Some(user) => drop(state.users.insert(uid, user)),
                None => drop(state.users.remove(&uid)),
            }
        }
        state.fences.extend(part.fences);
        state.outcomes.extend(part.outcomes);
        Ok(())
    }

    async fn end_restore(&self, restoration: &Restoration, totals: PartitionTotals) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        state.check(restoration)?;
        let kept = Decay::new(Duration::from_millis(totals.half_life_ms));
        let now = (self.options.clock)();
        let sums = totals
            .sums
            .iter()
            .map(|(item, bytes)| ((*item, restoration.partition), Decayed::restored(bytes, kept, self.decay, now)));
        state.posteriors = Posteriors(sums.collect());
        state.restoring = None;
        self.progress.set_positions(totals.positions);
        Ok(())
    }
}

impl State {
    fn check(&self, restoration: &Restoration) -> Result<(), StorageError> {
        match self.restoring {
            Some(token) if token == restoration.token => Ok(()),
            _ => Err(restoring(restoration.partition)),
        }
    }
}
