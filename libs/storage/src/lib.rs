//! What the platform needs from stores, in its own words, and the back-ends that give it.
//!
//! Always holds: `Ok` from a write means durable (it survives `kill -9` and power loss on the embedded back-end);
//! an effect and the offset it came from are written together or not at all; a folder has one owning process.
//! Every back-end of a trait passes the same conformance suite (`tests/`).

#![warn(clippy::disallowed_macros)]

mod accepted;
mod checkpoints;
mod decay;
mod decision_bus;
mod embedded;
mod error;
mod follower;
mod kafka;
mod life;
mod limits;
mod membership;
mod memory;
mod offset;
mod open;
mod progress;
mod redis;
mod references;
mod remote;

pub use checkpoints::{
    CheckpointError, CheckpointFile, CheckpointPart, CheckpointWriter, Checkpoints, ExportCursor, PartitionTotals,
    Positions, Restoration, StorePart, check_checkpoints, checkpoint_path,
};
pub use decay::{Decay, PosteriorChange};
pub use decision_bus::EventLogBus;
pub use embedded::{EmbeddedDecisionLog, EmbeddedEventLog, EmbeddedFeatureStore, must_restart};
pub use error::StorageError;
pub use follower::Follower;
pub use kafka::{KafkaEventLog, KafkaHealth, KafkaOptions, KafkaSasl, KafkaTls};
pub use limits::{MAX_APPEND_BYTES, MAX_READ_BYTES, MAX_RECORD_BYTES};
pub use membership::{Applied, Membership};
pub use memory::{MemoryDecisionLog, MemoryEventLog, MemoryFeatureStore};
pub use offset::{MAX_PARTITIONS, first_offset, partition_for, partition_of};
pub use open::{EnginesConfig, KafkaConfig, RedisConfig, is_engine, open_event_log, open_feature_store};
pub use redis::{
    REDIS_COMMANDS, RedisFamily, RedisFeatureStore, RedisMemory, RedisMetrics, RedisObserver, RedisOptions, RedisUse,
};
pub use references::RecordHead;
pub use remote::{EventLogGrpc, FeatureStoreGrpc, RemoteEventLog, RemoteFeatureStore};

use async_trait::async_trait;
use attune_domain::{PosteriorSnapshot, RequestId, Uid, UnixMillis, UserState};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Supplies the time. Handed in, so that tests choose it.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// Consumer of `user-events` that maintains the feature store; posterior snapshots carry its progress.
pub const USER_EVENTS_CONSUMER: &str = "user-events";
/// Consumer of `user-updates` that maintains attributes.
pub const USER_UPDATES_CONSUMER: &str = "user-updates";

/// What a feature store needs to know besides where it is.
#[derive(Clone)]
pub struct FeatureOptions {
    /// Evidence this old counts half.
    pub half_life: Duration,
    /// Posterior snapshots are worth what they are at this clock's time.
    pub clock: Clock,
}

impl FeatureOptions {
    /// With a clock that moves by the hour: evidence does not age noticeably in less, and a snapshot whose counts did
    /// not change keeps its name.
    pub fn hourly(half_life: Duration, clock: Clock) -> Self {
        const HOUR: i64 = 3_600_000;
        Self { half_life, clock: Arc::new(move || clock().div_euclid(HOUR) * HOUR) }
    }
}

/// A topic of the event log. The names are the contract (`user-events`, ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    UserEvents,
    ItemUpdates,
    UserUpdates,
    StateVersions,
    /// What the consumers of `user-events` could not process, each with its reason.
    UserEventsDead,
    /// Promotions of traces, between processes: see [`EventLogBus`].
    TraceDecisions,
}

impl Topic {
    pub const ALL: [Self; 6] = [
        Self::UserEvents,
        Self::ItemUpdates,
        Self::UserUpdates,
        Self::StateVersions,
        Self::UserEventsDead,
        Self::TraceDecisions,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserEvents => "user-events",
            Self::ItemUpdates => "item-updates",
            Self::UserUpdates => "user-updates",
            Self::StateVersions => "state-versions",
            Self::TraceDecisions => "trace-decisions",
            Self::UserEventsDead => "user-events.dead",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == text)
    }

    /// Whether a log may spread the topic over partitions by key. The others are one sequence: items get their numbers
    /// from the order of `item-updates`.
    pub const fn is_partitioned(self) -> bool {
        matches!(self, Self::UserEvents | Self::UserUpdates)
    }
}

/// A record as it stands on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Keeps records of one key in order; the uid on user topics.
    pub key: Bytes,
    pub value: Bytes,
    /// W3C trace context of the request that wrote it, or empty.
    pub traceparent: String,
}

/// Identity under which a second record is a duplicate, kept until its day leaves the acceptance window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DedupKey {
    /// Days since the Unix epoch of the event's `occurred_at`.
    pub day: i64,
    pub identity: Bytes,
}

/// What became of a record handed to [`EventLog::append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Durable at this offset.
    New(u64),
    /// The record with this identity has stood at this offset before (or earlier in the same batch).
    Duplicate(u64),
}

impl Appended {
    pub fn offset(self) -> u64 {
        match self {
            Self::New(offset) | Self::Duplicate(offset) => offset,
        }
    }
}

/// Offsets that exist in a partition: `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub start: u64,
    pub end: u64,
}

/// What became of a visitor's records when they were to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyErasure {
    /// So many records are empty now.
    Emptied(u64),
    /// The log cannot change what it holds: it drops the records by age, the last of them at this time.
    Retained { expires_at: Option<UnixMillis> },
}

/// Durable, append-only topics in partitions. Records of one key lie in one partition, in the order they were appended.
/// Offsets name their partition ([`partition_of`]) and are dense within it.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends in order. Returns when everything is durable; concurrent callers share one sync. After an error a part
    /// may have been written: dedup identities make a second try harmless.
    async fn append(
        &self,
        topic: Topic,
        records: Vec<(Record, Option<DedupKey>)>,
    ) -> Result<Vec<Appended>, StorageError>;

    /// Up to `max` records of one partition from `from` on, in offset order. Waits up to `wait` for the first one; then
    /// empty.
    async fn read(
        &self,
        topic: Topic,
        from: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Record)>, StorageError>;

    /// The same, for readers to whom half a second more is nothing: an engine brings them more at a time.
    async fn read_at_leisure(
        &self,
        topic: Topic,
        from: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Record)>, StorageError> {
        self.read(topic, from, max, wait).await
    }

    /// What each partition holds, in the order of partitions; never empty.
    async fn partitions(&self, topic: Topic) -> Result<Vec<Bounds>, StorageError>;

    /// What a topic holds that is one sequence (see [`Topic::is_partitioned`]).
    async fn bounds(&self, topic: Topic) -> Result<Bounds, StorageError> {
        match self.partitions(topic).await?[..] {
            [bounds] => Ok(bounds),
            ref many => Err(StorageError::invalid("topic", format!("has {} partitions instead of 1", many.len()))),
        }
    }

    /// Offset of the partition's first record that was accepted at `at` or later, or else its end. Only events tell
    /// when they were accepted.
    async fn offset_at(&self, topic: Topic, partition: u16, at: UnixMillis) -> Result<u64, StorageError>;

    /// Empties every record of `key` before `before`, its trace context included, where the log can; offsets stay.
    /// Consumers pass over an empty record.
    async fn erase_key(&self, topic: Topic, key: Bytes, before: u64) -> Result<KeyErasure, StorageError>;

    /// Forgets dedup identities of days before `day`.
    async fn forget_dedup_before(&self, day: i64) -> Result<(), StorageError>;

    /// Joins those who share the work on the partitioned topics. A log without groups gives everything to whoever asks.
    async fn join(&self, _group: &str) -> Result<Membership, StorageError> {
        Ok(Membership::sole(self.partitions(Topic::UserEvents).await?.len()))
    }
}

/// Effects of a run of records of one partition, to be stored with the offset after them in one step.
#[derive(Debug, Clone, Default)]
pub struct EffectBatch {
    /// Name of the consumer whose offset moves.
    pub consumer: &'static str,
    /// Offset the consumer expects the store to be at; another value refuses the batch ([`StorageError::Conflict`]).
    pub expected_offset: u64,
    /// In the same partition, and not before.
    pub next_offset: u64,
    /// Whole new states; each replaces what is stored.
    pub users: Vec<(Uid, UserState)>,
    /// Evidence to add, in log order: then the sums do not depend on where batches were cut, to the last bit.
    pub posteriors: Vec<PosteriorChange>,
    /// (request, item) pairs and the outcome bits counted for them so far, which replace what is stored;
    /// see [`OUTCOME_IMPRESSION`].
    pub outcomes: Vec<(OutcomeKey, u8)>,
    /// Visitors whose state is removed and whose offsets below this one are void for ever. Done before `users` is
    /// stored, so that a visitor who came back within the batch has a state.
    pub erased: Vec<(Uid, u64)>,
}

/// An item in a decision, by the day of the decision so that old days can be dropped whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutcomeKey {
    pub day: i64,
    pub request: RequestId,
    pub item: attune_domain::ItemIx,
}

/// Bit of an outcome: an impression of this item in this decision has been counted.
pub const OUTCOME_IMPRESSION: u8 = 1;
/// Bit of an outcome: a reward of this item in this decision has been counted.
pub const OUTCOME_REWARD: u8 = 2;

/// User states, posteriors, and how far each consumer has come.
#[async_trait]
pub trait FeatureStore: Send + Sync {
    /// In the order asked; a visitor never seen has an empty state.
    async fn load_users(&self, uids: &[Uid]) -> Result<Vec<UserState>, StorageError>;

    /// Waits until `consumer` has applied everything before `offset` in its partition, at most `wait`. Returns how far it
    /// has come there.
    async fn wait_applied(&self, consumer: &str, offset: u64, wait: Duration) -> Result<u64, StorageError>;

    /// Next offset `consumer` has to apply in a partition.
    async fn progress(&self, consumer: &str, partition: u16) -> Result<u64, StorageError>;

    /// Counts as they weigh at the store's clock, over all partitions.
    async fn posteriors(&self) -> Result<PosteriorSnapshot, StorageError>;

    /// Bits counted so far from events of a partition, in the order asked.
    async fn load_outcomes(&self, partition: u16, keys: &[OutcomeKey]) -> Result<Vec<u8>, StorageError>;

    /// Offset below which this visitor's records are void, where one was erased.
    async fn fences(&self, uids: &[Uid]) -> Result<Vec<Option<u64>>, StorageError>;

    /// Stores all of the batch, or nothing.
    async fn apply(&self, batch: EffectBatch) -> Result<(), StorageError>;

    async fn forget_outcomes_before(&self, day: i64) -> Result<(), StorageError>;

    /// How to take partitions out and put them back, of a log with so many; none where this store cannot.
    fn checkpoints(&self, _partitions: u16) -> Option<&dyn Checkpoints> {
        None
    }

    /// Visitors with a state.
    async fn user_count(&self) -> Result<u64, StorageError>;
}

/// What [`DecisionLog::get`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Found(Bytes),
    /// The visitor was erased; the record is gone.
    Erased,
    Unknown,
}

/// A record to keep: its name, whose it is, and its encoded form, an `attune.decision.v1.DecisionRecord`: the store
/// reads from it which objects it names.
#[derive(Debug, Clone)]
pub struct DecisionEntry {
    pub request_id: RequestId,
    pub uid: Uid,
    pub record: Bytes,
}

/// 16 bytes of blake3 over an object's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectHash(pub [u8; 16]);

impl ObjectHash {
    pub fn of(content: &[u8]) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(content).as_bytes()[..16]);
        Self(hash)
    }

    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// Decision records by request id, and the immutable objects they refer to.
#[async_trait]
pub trait DecisionLog: Send + Sync {
    /// Stores records and the objects they need in one step. An object or a record already there is kept, and an
    /// erased record stays erased.
    async fn append(&self, entries: Vec<DecisionEntry>, objects: Vec<(ObjectHash, Bytes)>) -> Result<(), StorageError>;

    async fn get(&self, request_id: RequestId) -> Result<Decision, StorageError>;

    async fn object(&self, hash: ObjectHash) -> Result<Option<Bytes>, StorageError>;

    /// Newest first.
    async fn recent(&self, max: usize) -> Result<Vec<RequestId>, StorageError>;

    /// Removes the visitor's records; their request ids answer [`Decision::Erased`] from now on.
    /// Objects that only this visitor's records ever named go too; those that others named as well stay.
    /// Records still waiting in a caller's queue are not known here: flush it first.
    async fn erase_user(&self, uid: Uid) -> Result<u64, StorageError>;

    /// Drops records of decisions before `before`, and objects whose last day (of the decisions naming them, in UTC) is
    /// wholly before it. An object that was never named goes when two calls in a row find it so. Returns how many
    /// records went.
    async fn retain_from(&self, before: UnixMillis) -> Result<u64, StorageError>;
}
