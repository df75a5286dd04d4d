//! The feature store's keyspaces one after the other, in the order of their keys; restored by the thread that writes.

use super::features::{
    EmbeddedFeatureStore, FeatureJob, RESTORING, Shared, USER_COUNT, consumer_key, number, outcome_key, sum_key,
    user_of,
};
use crate::checkpoints::restoring;
use crate::decay::{Decay, Decayed, Posteriors};
use crate::{Checkpoints, ExportCursor, OutcomeKey, PartitionTotals, Positions, Restoration, StorageError, StorePart};
use async_trait::async_trait;
use attune_domain::{ItemIx, RequestId, Uid};
use attune_proto::state::v1 as wire;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Above every key.
const END: [u8; 64] = [0xff; 64];

/// What the writing thread does of a restoration.
pub(super) enum RestoreStep {
    Begin { expected: Positions, restoration: Restoration },
    Part { restoration: Restoration, part: StorePart },
    End { restoration: Restoration, totals: PartitionTotals },
}

impl RestoreStep {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Part { part, .. } => part.users.len() * 4_096 + part.outcomes.len() * 64,
            Self::Begin { .. } | Self::End { .. } => 0,
        }
    }
}

#[async_trait]
impl Checkpoints for EmbeddedFeatureStore {
    async fn export(
        &self,
        _partition: u16,
        from: &ExportCursor,
        max: usize,
    ) -> Result<(StorePart, Option<ExportCursor>), StorageError> {
        let from = from.clone();
        self.read(move |shared| shared.export(from, max)).await
    }

    async fn totals(&self, partition: u16) -> Result<PartitionTotals, StorageError> {
        let posteriors = self.shared.posteriors.read();
        let sums = posteriors.0.iter().filter(|((_, of), _)| *of == partition);
        Ok(PartitionTotals {
            positions: self.shared.progress.positions(partition),
            half_life_ms: self.shared.decay.half_life_ms() as u64,
            sums: sums.map(|((item, _), sum)| (*item, sum.to_bytes())).collect(),
        })
    }

    async fn is_restoring(&self, _partition: u16) -> Result<bool, StorageError> {
        self.read(|shared| Ok(shared.meta.contains_key(RESTORING)?)).await
    }

    async fn begin_restore(
        &self,
        partition: u16,
        expected: Positions,
        token: u64,
    ) -> Result<Restoration, StorageError> {
        let restoration = Restoration { partition, token };
        self.step(RestoreStep::Begin { expected, restoration: restoration.clone() }).await?;
        Ok(restoration)
    }

    async fn restore(&self, restoration: &Restoration, part: StorePart) -> Result<(), StorageError> {
        self.step(RestoreStep::Part { restoration: restoration.clone(), part }).await
    }

    async fn end_restore(&self, restoration: &Restoration, totals: PartitionTotals) -> Result<(), StorageError> {
        self.step(RestoreStep::End { restoration: restoration.clone(), totals }).await
    }
}

impl EmbeddedFeatureStore {
    async fn step(&self, step: RestoreStep) -> Result<(), StorageError> {
        self.writer.ask(|reply| FeatureJob::Restore { step, reply }).await
    }
}

impl Shared {
    fn export(&self, from: ExportCursor, max: usize) -> Result<(StorePart, Option<ExportCursor>), StorageError> {
        let mut part = StorePart::default();
        let keyspace = match from.family {
            0 => &self.users,
            1 => &self.fences,
            _ => &self.outcomes,
        };
        let (mut at, mut found) = (None, 0);
        for guard in keyspace.range(from.at.as_slice()..).take(max) {
            let (key, value) = guard.into_inner()?;
            match from.family {
                0 => part.users.push((uid_of(&key)?, Some(user_of(&value)?))),
                1 => part.fences.push((uid_of(&key)?, number(&value)?)),
                _ => part.outcomes.push((outcome_of(&key)?, value.first().copied().unwrap_or(0))),
            }
            found += 1;
            at = Some(key);
        }
        let next = match at {
            // The key after it.
            Some(key) if found == max => Some(ExportCursor { at: [&key[..], &[0]].concat(), ..from }),
            _ if from.family < 2 => Some(ExportCursor { family: from.family + 1, at: Vec::new(), ..from }),
            _ => None,
        };
        Ok((part, next))
    }

    pub(super) fn restore(&self, step: RestoreStep) -> Result<(), StorageError> {
        match step {
            RestoreStep::Begin { expected, restoration } => self.begin(expected, &restoration),
            RestoreStep::Part { restoration, part } => {
                self.check(&restoration)?;
                self.put(part)
            }
            RestoreStep::End { restoration, totals } => {
                self.check(&restoration)?;
                self.end(restoration.partition, &totals)
            }
        }
    }

    fn check(&self, restoration: &Restoration) -> Result<(), StorageError> {
        match self.meta.get(RESTORING)?.map(|token| number(&token)).transpose()? {
            Some(token) if token == restoration.token => Ok(()),
            _ => Err(restoring(restoration.partition)),
        }
    }

    /// The token is durable before anything is gone.
    fn begin(&self, expected: Positions, restoration: &Restoration) -> Result<(), StorageError> {
        self.progress.check_positions(restoration.partition, expected)?;
        let mut batch = self.engine.batch();
        batch.insert(&self.meta, RESTORING, restoration.token.to_be_bytes().as_slice());
        batch.insert(&self.meta, USER_COUNT, 0u64.to_be_bytes().as_slice());
        let first = Positions::first(restoration.partition);
        for (consumer, _) in first.by_consumer() {
            batch.remove(&self.meta, consumer_key(consumer, restoration.partition));
        }
        self.engine.commit(batch)?;
        self.progress.set_positions(first);
        self.user_count.store(0, Ordering::Release);
        self.posteriors.write().0.clear();
        for keyspace in [&self.users, &self.fences, &self.outcomes, &self.sums] {
            self.engine.remove_below(keyspace, &END)?;
        }
        Ok(())
    }

    /// Not synced: the end of the restoration is, and everything before it.
    fn put(&self, part: StorePart) -> Result<(), StorageError> {
        let mut batch = self.engine.db.batch();
        let mut count = self.user_count.load(Ordering::Relaxed);
        // One write a key and batch: the engine does not order writes of one key within a batch.
        for (uid, state) in part.users.into_iter().collect::<HashMap<_, _>>() {
            let before = self.users.contains_key(uid.0)?;
            match state {
                Some(state) => {
                    count += u64::from(!before);
                    batch.insert(&self.users, uid.0.as_slice(), wire::UserState::from(&state).encode_to_vec());
                }
                None if before => {
                    count = count.saturating_sub(1);
                    batch.remove(&self.users, uid.0.as_slice());
                }
                None => {}
            }
        }
        for (uid, fence) in part.fences.into_iter().collect::<HashMap<_, _>>() {
            batch.insert(&self.fences, uid.0.as_slice(), fence.to_be_bytes().as_slice());
        }
        for (key, bits) in part.outcomes.into_iter().collect::<HashMap<_, _>>() {
            batch.insert(&self.outcomes, outcome_key(&key).as_slice(), [bits].as_slice());
        }
        self.engine.commit(batch)?;
        self.user_count.store(count, Ordering::Release);
        Ok(())
    }

    fn end(&self, partition: u16, totals: &PartitionTotals) -> Result<(), StorageError> {
        let (kept, now) = (Decay::new(Duration::from_millis(totals.half_life_ms)), (self.clock)());
        let sums = totals.sums.iter().map(|(item, bytes)| {
            let sum = Decayed::restored(bytes, kept, self.decay, now);
            ((*item, partition), sum)
        });
        let sums = Posteriors(sums.collect());
        let mut batch = self.engine.batch();
        for (key, sum) in &sums.0 {
            batch.insert(&self.sums, sum_key(*key), sum.to_bytes().as_slice());
        }
        for (consumer, next_offset) in totals.positions.by_consumer() {
            batch.insert(&self.meta, consumer_key(consumer, partition), next_offset.to_be_bytes().as_slice());
        }
        batch.insert(&self.meta, USER_COUNT, self.user_count.load(Ordering::Relaxed).to_be_bytes().as_slice());
        batch.remove(&self.meta, RESTORING);
        self.engine.commit(batch)?;
        *self.posteriors.write() = sums;
        self.progress.set_positions(totals.positions);
        Ok(())
    }
}

fn uid_of(key: &[u8]) -> Result<Uid, StorageError> {
    Uid::from_slice(key).ok_or_else(|| StorageError::corrupt("visitor's key"))
}

fn outcome_of(key: &[u8]) -> Result<OutcomeKey, StorageError> {
    let read = || {
        let (day, rest) = key.split_first_chunk::<8>()?;
        let (request, item) = rest.split_first_chunk::<16>()?;
        let day = (u64::from_be_bytes(*day) ^ 1 << 63) as i64;
        let item = ItemIx(u32::from_be_bytes(item.try_into().ok()?));
        Some(OutcomeKey { day, request: RequestId(*request), item })
    };
    read().ok_or_else(|| StorageError::corrupt("outcome's key"))
}
