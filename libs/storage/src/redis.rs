//! The feature store on Redis or a Redis cluster (7.0 or newer, or Valkey).
//!
//! All of a log partition lies in one slot, under `PREFIX{pN}:`, so one script applies a batch: it compares the stored
//! progress with what the batch expects and then writes states, fences, outcomes, sums and progress, all or nothing,
//! in memory and in the append-only file. A write that timed out may have landed: then the second try is a
//! [`StorageError::Conflict`], and the consumer goes on from where the store is.
//!
//! | family | keys | life |
//! |---|---|---|
//! | states | `u:UID`, [`state`]'s bytes; `ends`, how many end on which day | `user_ttl` after the last write; `ends` for ever |
//! | fences | `f:UID`, an offset in 8 bytes | `fence_ttl` after the erasure, which must outlive the log's retention |
//! | outcomes | `o:DAY`, request to items and bits; `days` | `outcome_ttl` after the day's last, or until forgotten |
//! | posteriors | `sums`, item to 24 bytes; `@`, which batch they are of | for ever |
//! | progress | `progress`, consumer to next offset | for ever |
//!
//! `PREFIXmeta` keeps the format and the number of partitions; the store refuses others. An older format
//! is raised to this build's, so that no older build begins on what this one writes.
//! How durable `Ok` is, Redis decides. With `appendonly yes` and `appendfsync everysec` a crash loses up to a second of
//! batches, and while the disk is slow a mere kill up to two; each goes with its progress, so that consumers apply it
//! again. `appendfsync always` loses none. What comes back empty is filled from a checkpoint, or
//! by replaying the log from its start.
//! The policy must be `noeviction`: what is evicted is gone though its progress says it is there.

pub(crate) mod bytes;
mod checkpoints;
mod keys;
mod link;
mod memory;
pub(crate) mod metrics;
mod notices;
mod options;
mod outcomes;
pub(crate) mod state;
mod sums;

pub use memory::{RedisFamily, RedisMemory, RedisUse};
pub use metrics::RedisMetrics;
pub use options::{RedisObserver, RedisOptions};

use crate::decay::Decay;
use crate::{
    Checkpoints, Clock, EffectBatch, FeatureOptions, FeatureStore, OutcomeKey, StorageError, first_offset,
    partition_for, partition_of,
};
use async_trait::async_trait;
use attune_domain::{PosteriorSnapshot, Uid, UserState};
use fred::types::Value;
use futures::future::try_join_all;
use keys::{Base, bytes, text};
use link::{Link, Script};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use sums::{PartitionSums, ReadSums};

/// Every command that a [`RedisObserver`] may hear of.
pub const REDIS_COMMANDS: [&str; 14] = [
    "DBSIZE", "EVAL", "EVALSHA", "HGET", "HGETALL", "HMGET", "HSCAN", "HSET", "HSETNX", "INFO", "MEMORY", "MGET",
    "SCAN", "SMEMBERS",
];

const FORMAT: u32 = 2;
const OLDEST_FORMAT: u32 = 1;
const MIN_VERSION: u32 = 7;
/// Keys of one command.
const MAX_KEYS: usize = 1_024;
/// Tries of a batch while others keep writing the partition's sums.
const TRIES: usize = 3;

static APPLY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/apply.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/forget.lua")));
static COUNT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/count.lua")));

pub struct RedisFeatureStore {
    options: RedisOptions,
    decay: Decay,
    clock: Clock,
    bases: Vec<Base>,
    /// Short reads, which a batch must not delay.
    reads: Link,
    /// Batches, and reads in bulk.
    bulk: Link,
    notices: notices::Notices,
    /// Sums of the partitions that this process writes, while nobody else moved them.
    written: Mutex<HashMap<u16, PartitionSums>>,
    read: tokio::sync::Mutex<ReadSums>,
    sampler: memory::Sampler,
}

impl RedisFeatureStore {
    /// Refuses a server that cannot be reached, or not be used, and says why; within `connect_timeout` for each step:
    /// reaching it, asking what it is, connecting for good.
    pub async fn connect(options: RedisOptions, features: FeatureOptions) -> Result<Self, StorageError> {
        options.check()?;
        let probe = Link::probe(&options).await?;
        check_version(&probe).await?;
        adopt(&probe, &options).await?;
        let bases: Vec<_> = (0..options.partitions).map(|n| Base::new(&options.prefix, n)).collect();
        let (reads, bulk) =
            tokio::try_join!(Link::open(&options, options.timeout), Link::open(&options, options.write_timeout))?;
        let notices = notices::Notices::start(options.config()?, &bases);
        Ok(Self {
            decay: Decay::new(features.half_life),
            clock: features.clock,
            bases,
            reads,
            bulk,
            notices,
            written: Mutex::default(),
            read: tokio::sync::Mutex::default(),
            sampler: memory::Sampler::default(),
            options,
        })
    }

    /// What the store takes, estimated; reads a few hundred keys.
    pub async fn memory(&self) -> Result<RedisMemory, StorageError> {
        self.sampler.measure(&self.bulk, &self.options.prefix, &self.bases).await
    }

    fn base(&self, partition: u16) -> Result<&Base, StorageError> {
        self.bases.get(usize::from(partition)).ok_or_else(|| {
            StorageError::invalid("partitions", format!("the store has {}, not {partition}", self.bases.len()))
        })
    }

    /// A value for each visitor, in the order asked.
    async fn values(&self, uids: &[Uid], key: impl Fn(&Base, &Uid) -> Value) -> Result<Vec<Value>, StorageError> {
        let mut by_partition: Vec<Vec<usize>> = vec![Vec::new(); self.bases.len()];
        for (place, uid) in uids.iter().enumerate() {
            by_partition[usize::from(partition_for(&uid.0, self.options.partitions))].push(place);
        }
        let asked = by_partition.iter().zip(&self.bases);
        let asked = asked.flat_map(|(places, base)| places.chunks(MAX_KEYS).map(move |places| (places, base)));
        let reads = asked.map(|(places, base)| {
            let keys = places.iter().map(|&place| key(base, &uids[place])).collect();
            async move { Ok::<_, StorageError>((places, self.reads.ask("MGET", base.slot, keys).await?.into_array())) }
        });
        let mut values = vec![Value::Null; uids.len()];
        for (places, found) in try_join_all(reads).await? {
            places.iter().zip(found).for_each(|(&place, found)| values[place] = found);
        }
        Ok(values)
    }

    async fn write(&self, batch: &EffectBatch, partition: u16) -> Result<(), StorageError> {
        let base = self.base(partition)?;
        let data = data(batch)?;
        for _ in 0..TRIES {
            let kept = if batch.posteriors.is_empty() { None } else { self.written.lock().remove(&partition) };
            let sums = match kept {
                Some(sums) => Some(sums),
                None if batch.posteriors.is_empty() => None,
                None => {
                    let now = (self.clock)();
                    Some(PartitionSums::load(&self.bulk, base, partition, self.decay, now).await?)
                }
            };
            match self.run(base, batch, partition, sums, &data).await? {
                Answer::Applied => return Ok(()),
                Answer::Stale => {}
                Answer::Conflict(found) => {
                    self.written.lock().remove(&partition);
                    return Err(StorageError::Conflict { expected: batch.expected_offset, found });
                }
            }
        }
        Err(StorageError::Overloaded)
    }

    /// The sums are kept where the batch was applied, and in no other case: what is not known to stand is read again.
    async fn run(
        &self,
        base: &Base,
        batch: &EffectBatch,
        partition: u16,
        sums: Option<PartitionSums>,
        data: &[Value],
    ) -> Result<Answer, StorageError> {
        let mut args = vec![
            text(batch.consumer),
            text(batch.expected_offset),
            text(batch.next_offset),
            text(first_offset(partition)),
        ];
        args.extend(self.lives());
        let tag = sums::tag(batch.consumer, batch.next_offset, self.decay);
        let changed = sums.as_ref().map(|sums| sums.changed(self.decay, partition, &batch.posteriors));
        let changed = changed.unwrap_or_default();
        match &sums {
            Some(sums) => args.extend([text(&sums.tag), text(&tag)]),
            None => args.extend([text(""), text("")]),
        }
        args.push(text(""));
        args.extend_from_slice(data);
        args.push(text(changed.len()));
        for ((item, _), sum) in &changed {
            args.extend([bytes(&item.0.to_be_bytes()), bytes(&sum.to_bytes())]);
        }
        let answer = self.bulk.run(&APPLY, base.slot, Value::Bytes(base.text.clone()), args).await?.into_array();
        let word = answer.first().and_then(Value::as_string).unwrap_or_default();
        match (word.as_str(), answer.get(1)) {
            ("applied", Some(tag)) => {
                if let (Some(mut sums), Some(tag)) = (sums, tag.as_string()) {
                    sums.advance(tag, changed);
                    self.written.lock().insert(partition, sums);
                }
                Ok(Answer::Applied)
            }
            ("stale", None) => Ok(Answer::Stale),
            ("conflict", Some(found)) => {
                offset(found).map(Answer::Conflict).ok_or_else(|| StorageError::corrupt("progress"))
            }
            _ => Err(StorageError::corrupt("answer of the script")),
        }
    }

    /// Of states, fences and outcomes, as the script takes them.
    fn lives(&self) -> [Value; 3] {
        let RedisOptions { user_ttl, fence_ttl, outcome_ttl, .. } = self.options;
        [user_ttl, fence_ttl, outcome_ttl].map(|ttl| text(ttl.as_secs()))
    }

    /// Refuses visitors of another partition: their readers would not find them.
    fn check_visitors(&self, batch: &EffectBatch, partition: u16) -> Result<(), StorageError> {
        let belongs = |uid: &Uid| partition_for(&uid.0, self.options.partitions) == partition;
        if !batch.users.iter().all(|(uid, _)| belongs(uid)) {
            return Err(StorageError::invalid("users", "must be of the batch's partition"));
        }
        if !batch.erased.iter().all(|(uid, _)| belongs(uid)) {
            return Err(StorageError::invalid("erased", "must be of the batch's partition"));
        }
        Ok(())
    }
}

enum Answer {
    Applied,
    /// Somebody else has written the sums.
    Stale,
    Conflict(u64),
}

#[async_trait]
impl FeatureStore for RedisFeatureStore {
    async fn load_users(&self, uids: &[Uid]) -> Result<Vec<UserState>, StorageError> {
        let values = self.values(uids, |base, uid| base.user(&uid.0)).await?;
        let states = values.iter().map(|value| match value.as_bytes() {
            Some(bytes) => state::decode(bytes),
            None => Ok(UserState::default()),
        });
        states.collect()
    }

    async fn wait_applied(&self, consumer: &str, offset: u64, wait: Duration) -> Result<u64, StorageError> {
        let partition = partition_of(offset);
        self.base(partition)?;
        let end = Instant::now() + wait;
        loop {
            let moved = self.notices.moved(partition).notified();
            tokio::pin!(moved);
            // From here on, before the question: what moves after the answer wakes.
            moved.as_mut().enable();
            let found = self.progress(consumer, partition).await?;
            let left = end.saturating_duration_since(Instant::now());
            if found >= offset || left.is_zero() {
                return Ok(found);
            }
            // Late or not, the next question tells.
            let _ = tokio::time::timeout(left.min(self.notices.poll()), moved).await;
        }
    }

    async fn progress(&self, consumer: &str, partition: u16) -> Result<u64, StorageError> {
        let base = self.base(partition)?;
        match self.reads.ask("HGET", base.slot, vec![base.key("progress"), text(consumer)]).await? {
            Value::Null => Ok(first_offset(partition)),
            found => offset(&found).ok_or_else(|| StorageError::corrupt("progress")),
        }
    }

    async fn posteriors(&self) -> Result<PosteriorSnapshot, StorageError> {
        let (mut read, now) = (self.read.lock().await, (self.clock)());
        read.refresh(&self.bulk, &self.bases, self.decay, now).await?;
        Ok(read.snapshot(self.decay, now))
    }

    async fn load_outcomes(&self, partition: u16, keys: &[OutcomeKey]) -> Result<Vec<u8>, StorageError> {
        outcomes::load(&self.reads, self.base(partition)?, keys).await
    }

    async fn fences(&self, uids: &[Uid]) -> Result<Vec<Option<u64>>, StorageError> {
        let values = self.values(uids, |base, uid| base.fence(&uid.0)).await?;
        let fences = values.iter().map(|value| match value.as_bytes() {
            Some(bytes) => bytes.try_into().map(|fence| Some(u64::from_be_bytes(fence))),
            None => Ok(None),
        });
        fences.collect::<Result<_, _>>().map_err(|_| StorageError::corrupt("fence"))
    }

    async fn apply(&self, batch: EffectBatch) -> Result<(), StorageError> {
        batch.check()?;
        let partition = partition_of(batch.next_offset);
        self.check_visitors(&batch, partition)?;
        if batch.expected_offset == first_offset(partition) {
            // The server may have lost what it knew, this too.
            adopt(&self.bulk, &self.options).await?;
        }
        self.write(&batch, partition).await
    }

    async fn forget_outcomes_before(&self, day: i64) -> Result<(), StorageError> {
        let forgets = self
            .bases
            .iter()
            .map(|base| self.bulk.run(&FORGET, base.slot, Value::Bytes(base.text.clone()), vec![text(day)]));
        try_join_all(forgets).await.map(drop)
    }

    fn checkpoints(&self, partitions: u16) -> Option<&dyn Checkpoints> {
        (partitions == self.options.partitions).then_some(self)
    }

    async fn user_count(&self) -> Result<u64, StorageError> {
        let counts =
            self.bases.iter().map(|base| self.bulk.run(&COUNT, base.slot, Value::Bytes(base.text.clone()), Vec::new()));
        let counts = try_join_all(counts).await?;
        Ok(counts.iter().filter_map(Value::as_u64).sum())
    }
}

/// Erasures, states and outcomes as the script takes them.
fn data(batch: &EffectBatch) -> Result<Vec<Value>, StorageError> {
    let mut args = Vec::with_capacity(8 + 2 * batch.users.len() + 2 * batch.erased.len());
    args.push(text(batch.erased.len()));
    for (uid, fence) in &batch.erased {
        args.extend([bytes(&uid.0), bytes(&fence.to_be_bytes())]);
    }
    args.push(text(batch.users.len()));
    for (uid, user) in &batch.users {
        args.extend([bytes(&uid.0), Value::Bytes(state::encode(user).into())]);
    }
    outcomes::args(&batch.outcomes, &mut args);
    Ok(args)
}

fn offset(value: &Value) -> Option<u64> {
    value.as_string()?.parse().ok()
}

async fn check_version(link: &Link) -> Result<(), StorageError> {
    let info = link.ask("INFO", 0, vec![Value::from_static_str("server")]).await?.as_string().unwrap_or_default();
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("").trim();
    match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= MIN_VERSION => Ok(()),
        _ => Err(StorageError::invalid("url", format!("is a Redis {version}, and it takes {MIN_VERSION} or newer"))),
    }
}

/// Says what is kept here where nothing is said, and refuses what is said otherwise.
async fn adopt(link: &Link, options: &RedisOptions) -> Result<(), StorageError> {
    let (key, slot) = keys::meta(&options.prefix);
    let field = Value::from_static_str;
    for (name, value) in [("format", FORMAT), ("partitions", options.partitions.into())] {
        link.ask("HSETNX", slot, vec![key.clone(), field(name), text(value)]).await?;
    }
    let found = link.ask("HMGET", slot, vec![key.clone(), field("format"), field("partitions")]).await?.into_array();
    let found: Vec<u32> = found.iter().filter_map(|value| value.as_string()?.parse().ok()).collect();
    match found[..] {
        [OLDEST_FORMAT..=FORMAT, partitions] if partitions != u32::from(options.partitions) => {
            Err(StorageError::invalid("partitions", format!("are {partitions} under {}", options.prefix)))
        }
        [FORMAT, _] => Ok(()),
        [OLDEST_FORMAT, _] => link.ask("HSET", slot, vec![key, field("format"), text(FORMAT)]).await.map(drop),
        [found, _] => Err(StorageError::FormatVersion { found, supported: FORMAT }),
        _ => Err(StorageError::corrupt("description of the store")),
    }
}
