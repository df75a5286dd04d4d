//! The feature store: states by uid, posterior sums by item, counted outcomes by day, fences, and consumers' offsets.
//!
//! Posterior sums and offsets are also in memory: a snapshot touches no disk.

use super::checkpoints::RestoreStep;
use super::writer::{Job, Reply, Writer};
use super::{CACHE_BYTES, Engine, blocking, day_bytes};
use crate::checkpoints::restoring;
use crate::decay::{Decay, Decayed, Posteriors, SumKey};
use crate::progress::Progress;
use crate::{Checkpoints, Clock, EffectBatch, FeatureOptions, FeatureStore, OutcomeKey, StorageError, partition_of};
use async_trait::async_trait;
use attune_domain::{ItemIx, PosteriorSnapshot, Uid, UserState};
use attune_proto::convert;
use attune_proto::state::v1 as wire;
use fjall::Keyspace;
use parking_lot::RwLock;
use prost::Message as _;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) const USER_COUNT: &[u8] = b"user_count";
const HALF_LIFE: &[u8] = b"half_life_ms";
/// Token of a restoration that has not ended.
pub(super) const RESTORING: &[u8] = b"restoring";
const CONSUMER_PREFIX: &[u8] = b"consumer:";

/// Durable feature store in a folder.
pub struct EmbeddedFeatureStore {
    pub(super) writer: Writer<FeatureJob>,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) users: Keyspace,
    pub(super) sums: Keyspace,
    pub(super) outcomes: Keyspace,
    pub(super) fences: Keyspace,
    pub(super) meta: Keyspace,
    pub(super) posteriors: RwLock<Posteriors>,
    pub(super) progress: Progress,
    pub(super) user_count: AtomicU64,
    pub(super) decay: Decay,
    pub(super) clock: Clock,
    pub(super) engine: Engine,
}

pub(super) enum FeatureJob {
    Restore { step: RestoreStep, reply: Reply<()> },
    Apply { batch: Box<EffectBatch>, reply: Reply<()> },
    ForgetOutcomes { day: i64, reply: Reply<()> },
}

impl Job for FeatureJob {
    fn bytes(&self) -> usize {
        match self {
            // A full window and a usual number of seen items.
            Self::Apply { batch, .. } => batch.users.len() * 4_096 + batch.outcomes.len() * 64,
            Self::Restore { step, .. } => step.bytes(),
            Self::ForgetOutcomes { .. } => 0,
        }
    }
}

impl EmbeddedFeatureStore {
    pub fn open(dir: &Path, options: FeatureOptions) -> Result<Self, StorageError> {
        let engine = Engine::open(dir, CACHE_BYTES)?;
        let (sums, meta) = (engine.keyspace("posteriors")?, engine.keyspace("meta")?);
        let mut posteriors = Posteriors::default();
        for guard in sums.iter() {
            let (key, value) = guard.into_inner()?;
            let sum = sum_key_of(&key).zip(Decayed::from_bytes(&value));
            let (key, sum) = sum.ok_or_else(|| StorageError::corrupt("posterior sum"))?;
            posteriors.0.insert(key, sum);
        }
        let mut offsets = BTreeMap::new();
        for guard in meta.prefix(CONSUMER_PREFIX) {
            let (key, value) = guard.into_inner()?;
            let next_offset = number(&value)?;
            let name = std::str::from_utf8(&key[CONSUMER_PREFIX.len()..]).ok();
            let name =
                name.and_then(|name| name.split('/').next()).ok_or_else(|| StorageError::corrupt("consumer name"))?;
            offsets.insert((name.to_owned(), partition_of(next_offset)), next_offset);
        }
        let user_count = meta.get(USER_COUNT)?.map(|n| number(&n)).transpose()?.unwrap_or(0);
        let stored_half_life = meta.get(HALF_LIFE)?.map(|n| number(&n)).transpose()?;
        let shared = Arc::new(Shared {
            users: engine.keyspace("users")?,
            outcomes: engine.keyspace("outcomes")?,
            fences: engine.keyspace("fences")?,
            sums,
            meta,
            posteriors: RwLock::new(posteriors),
            progress: Progress::new(offsets),
            user_count: user_count.into(),
            decay: Decay::new(options.half_life),
            clock: options.clock,
            engine,
        });
        shared.adopt_half_life(stored_half_life)?;
        let writing = shared.clone();
        let writer = Writer::start("feature-store", || {}, move |jobs| writing.write(jobs))?;
        Ok(Self { writer, shared })
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let shared = self.shared.clone();
        blocking(move || read(&shared)).await
    }
}

#[async_trait]
impl FeatureStore for EmbeddedFeatureStore {
    async fn load_users(&self, uids: &[Uid]) -> Result<Vec<UserState>, StorageError> {
        let uids = uids.to_vec();
        self.read(move |shared| uids.iter().map(|uid| shared.user(uid)).collect()).await
    }

    async fn wait_applied(&self, consumer: &str, offset: u64, wait: Duration) -> Result<u64, StorageError> {
        Ok(self.shared.progress.wait(consumer, offset, wait).await)
    }

    async fn progress(&self, consumer: &str, partition: u16) -> Result<u64, StorageError> {
        Ok(self.shared.progress.get(consumer, partition))
    }

    async fn posteriors(&self) -> Result<PosteriorSnapshot, StorageError> {
        Ok(self.shared.posteriors.read().snapshot(self.shared.decay, (self.shared.clock)()))
    }

    async fn load_outcomes(&self, _partition: u16, keys: &[OutcomeKey]) -> Result<Vec<u8>, StorageError> {
        let keys = keys.to_vec();
        self.read(move |shared| {
            keys.iter()
                .map(|key| {
                    Ok(shared.outcomes.get(outcome_key(key))?.and_then(|bits| bits.first().copied()).unwrap_or(0))
                })
                .collect()
        })
        .await
    }

    async fn fences(&self, uids: &[Uid]) -> Result<Vec<Option<u64>>, StorageError> {
        let uids = uids.to_vec();
        self.read(move |shared| uids.iter().map(|uid| shared.fence(uid)).collect()).await
    }

    async fn apply(&self, batch: EffectBatch) -> Result<(), StorageError> {
        batch.check()?;
        self.writer.ask(|reply| FeatureJob::Apply { batch: Box::new(batch), reply }).await
    }

    async fn forget_outcomes_before(&self, day: i64) -> Result<(), StorageError> {
        self.writer.ask(|reply| FeatureJob::ForgetOutcomes { day, reply }).await
    }

    /// Outcomes are kept without their partition, so of a log with one.
    fn checkpoints(&self, partitions: u16) -> Option<&dyn Checkpoints> {
        (partitions == 1).then_some(self)
    }

    async fn user_count(&self) -> Result<u64, StorageError> {
        Ok(self.shared.user_count.load(Ordering::Acquire))
    }
}

impl Shared {
    fn user(&self, uid: &Uid) -> Result<UserState, StorageError> {
        self.users.get(uid.0)?.map_or_else(|| Ok(UserState::default()), |bytes| user_of(&bytes))
    }

    fn fence(&self, uid: &Uid) -> Result<Option<u64>, StorageError> {
        self.fences.get(uid.0)?.map(|offset| number(&offset)).transpose()
    }

    fn write(&self, jobs: Vec<FeatureJob>) {
        for job in jobs {
            let (reply, done) = match job {
                FeatureJob::Restore { step, reply } => (reply, self.restore(step)),
                FeatureJob::Apply { batch, reply } => (reply, self.apply(*batch)),
                FeatureJob::ForgetOutcomes { day, reply } => {
                    (reply, self.engine.remove_below(&self.outcomes, &day_bytes(day)).map(drop))
                }
            };
            drop(reply.send(done));
        }
    }

    fn apply(&self, effects: EffectBatch) -> Result<(), StorageError> {
        self.progress.check(&effects)?;
        if self.meta.contains_key(RESTORING)? {
            return Err(restoring(partition_of(effects.next_offset)));
        }
        let mut batch = self.engine.batch();
        // One write a key and batch: the engine does not order writes of one key within a batch.
        let mut after: HashMap<Uid, Option<&UserState>> =
            HashMap::with_capacity(effects.users.len() + effects.erased.len());
        let mut fences = HashMap::with_capacity(effects.erased.len());
        for (uid, offset) in &effects.erased {
            let stored = self.fence(uid)?.unwrap_or(0);
            let fence = fences.entry(*uid).or_insert(stored);
            *fence = offset.max(fence).to_owned();
            after.insert(*uid, None);
        }
        after.extend(effects.users.iter().map(|(uid, state)| (*uid, Some(state))));
        for (uid, fence) in fences {
            batch.insert(&self.fences, uid.0.as_slice(), fence.to_be_bytes().as_slice());
        }
        let mut count = self.user_count.load(Ordering::Relaxed);
        for (uid, state) in after {
            let before = self.users.contains_key(uid.0)?;
            match state {
                Some(state) => {
                    count += u64::from(!before);
                    batch.insert(&self.users, uid.0.as_slice(), wire::UserState::from(state).encode_to_vec());
                }
                None if before => {
                    count = count.saturating_sub(1);
                    batch.remove(&self.users, uid.0.as_slice());
                }
                None => {}
            }
        }
        let outcomes: HashMap<_, _> = effects.outcomes.iter().copied().collect();
        for (key, bits) in outcomes {
            batch.insert(&self.outcomes, outcome_key(&key).as_slice(), [bits].as_slice());
        }
        // Only this thread writes the sums, so they stand still until the commit.
        let partition = partition_of(effects.next_offset);
        let sums = self.posteriors.read().changed(self.decay, partition, &effects.posteriors);
        for (key, sum) in &sums {
            batch.insert(&self.sums, sum_key(*key), sum.to_bytes().as_slice());
        }
        batch.insert(&self.meta, USER_COUNT, count.to_be_bytes().as_slice());
        batch.insert(
            &self.meta,
            consumer_key(effects.consumer, partition),
            effects.next_offset.to_be_bytes().as_slice(),
        );
        self.engine.commit(batch)?;
        self.user_count.store(count, Ordering::Release);
        self.posteriors.write().0.extend(sums);
        self.progress.set(effects.consumer, effects.next_offset);
        Ok(())
    }

    /// Sums kept under another half-life are restated: they keep what they are worth now and decay anew from here.
    fn adopt_half_life(&self, stored: Option<u64>) -> Result<(), StorageError> {
        let configured = self.decay.half_life_ms() as u64;
        if stored == Some(configured) {
            return Ok(());
        }
        let mut batch = self.engine.batch();
        batch.insert(&self.meta, HALF_LIFE, configured.to_be_bytes().as_slice());
        if let Some(stored) = stored {
            let (from, now) = (Decay::new(Duration::from_millis(stored)), (self.clock)());
            for (key, sum) in &mut self.posteriors.write().0 {
                *sum = sum.under(from, self.decay, now);
                batch.insert(&self.sums, sum_key(*key), sum.to_bytes().as_slice());
            }
        }
        self.engine.commit(batch)
    }
}

pub(super) fn user_of(bytes: &[u8]) -> Result<UserState, StorageError> {
    let state = wire::UserState::decode(bytes).map_err(|_| StorageError::corrupt("user state"))?;
    convert::user_state(Some(&state)).map_err(|e| StorageError::corrupt(format!("user state: {e}")))
}

/// The item, and the partition where it is not the first.
pub(super) fn sum_key((item, partition): SumKey) -> Vec<u8> {
    let mut key = item.0.to_be_bytes().to_vec();
    if partition > 0 {
        key.extend(partition.to_be_bytes());
    }
    key
}

fn sum_key_of(bytes: &[u8]) -> Option<SumKey> {
    let (item, rest) = bytes.split_first_chunk()?;
    let partition = if rest.is_empty() { 0 } else { u16::from_be_bytes(rest.try_into().ok()?) };
    Some((ItemIx(u32::from_be_bytes(*item)), partition))
}

/// The name, and the partition where it is not the first.
pub(super) fn consumer_key(consumer: &str, partition: u16) -> Vec<u8> {
    let mut key = [CONSUMER_PREFIX, consumer.as_bytes()].concat();
    if partition > 0 {
        key.extend(format!("/{partition}").bytes());
    }
    key
}

/// Day first, so that old days are one range.
pub(super) fn outcome_key(key: &OutcomeKey) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..8].copy_from_slice(&day_bytes(key.day));
    bytes[8..24].copy_from_slice(&key.request.0);
    bytes[24..].copy_from_slice(&key.item.0.to_be_bytes());
    bytes
}

pub(super) fn number(bytes: &[u8]) -> Result<u64, StorageError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| StorageError::corrupt("number in the feature store"))
}
