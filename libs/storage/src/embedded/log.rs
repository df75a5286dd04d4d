//! The event log: a keyspace per topic with big-endian offsets as keys, and one for dedup identities.

use super::writer::{Job, Reply, Writer};
use super::{CACHE_BYTES, Engine, blocking, day_bytes};
use crate::accepted::{accepted_at, check_topic, first_from, no_partition};
use crate::limits::append_bytes;
use crate::{
    Appended, Bounds, DedupKey, EventLog, KeyErasure, MAX_READ_BYTES, ObjectHash, Record, StorageError, Topic,
};
use async_trait::async_trait;
use attune_domain::UnixMillis;
use attune_proto::storage::v1::LogRecord;
use bytes::Bytes;
use fjall::Keyspace;
use prost::Message as _;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const TOPICS: usize = Topic::ALL.len();
type Records = Vec<(Record, Option<DedupKey>)>;

/// Durable event log in a folder. Concurrent appends share a sync.
pub struct EmbeddedEventLog {
    writer: Writer<LogJob>,
    shared: Arc<Shared>,
}

struct Shared {
    topics: [Keyspace; TOPICS],
    dedup: Keyspace,
    /// Next offset of each topic; moves after the record is durable and readable.
    ends: [watch::Sender<u64>; TOPICS],
    engine: Engine,
}

/// Records looked at in one step of an erasure.
const ERASE_BATCH: usize = 4_096;

enum LogJob {
    Append { topic: Topic, records: Records, bytes: usize, reply: Reply<Vec<Appended>> },
    ForgetDedup { day: i64, reply: Reply<()> },
    EraseKey { topic: Topic, key: Bytes, before: u64, reply: Reply<u64> },
}

impl Job for LogJob {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => *bytes,
            Self::ForgetDedup { .. } | Self::EraseKey { .. } => 0,
        }
    }
}

impl EmbeddedEventLog {
    pub fn open(dir: &Path) -> Result<Self, StorageError> {
        let engine = Engine::open(dir, CACHE_BYTES)?;
        let mut topics = Vec::with_capacity(TOPICS);
        let mut ends = Vec::with_capacity(TOPICS);
        for topic in Topic::ALL {
            let keyspace = engine.keyspace(topic.as_str())?;
            ends.push(watch::Sender::new(match keyspace.last_key_value() {
                Some(guard) => offset(&guard.key()?)? + 1,
                None => 0,
            }));
            topics.push(keyspace);
        }
        let whole = "one for each topic";
        let (Ok(topics), Ok(ends)) = (topics.try_into(), ends.try_into()) else {
            return Err(StorageError::corrupt(whole));
        };
        let shared = Arc::new(Shared { topics, ends, dedup: engine.keyspace("dedup")?, engine });
        let writing = shared.clone();
        let writer = Writer::start("event-log", || {}, move |jobs| writing.write(jobs))?;
        Ok(Self { writer, shared })
    }
}

#[async_trait]
impl EventLog for EmbeddedEventLog {
    async fn append(&self, topic: Topic, records: Records) -> Result<Vec<Appended>, StorageError> {
        let bytes = append_bytes(records.iter().map(|(record, _)| record))?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.writer.ask(|reply| LogJob::Append { topic, records, bytes, reply }).await
    }

    async fn read(
        &self,
        topic: Topic,
        from: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Record)>, StorageError> {
        let mut end = self.shared.ends[topic as usize].subscribe();
        let arrived = matches!(tokio::time::timeout(wait, end.wait_for(|&end| end > from)).await, Ok(Ok(_)));
        if !arrived || max == 0 {
            return Ok(Vec::new());
        }
        let shared = self.shared.clone();
        blocking(move || shared.scan(topic, from, max)).await
    }

    async fn partitions(&self, topic: Topic) -> Result<Vec<Bounds>, StorageError> {
        let shared = self.shared.clone();
        blocking(move || Ok(vec![shared.bounds(topic)?])).await
    }

    async fn offset_at(&self, topic: Topic, partition: u16, at: UnixMillis) -> Result<u64, StorageError> {
        check_topic(topic)?;
        if partition > 0 {
            return Err(no_partition(partition));
        }
        let shared = self.shared.clone();
        blocking(move || {
            let time_at =
                |offset| Ok(shared.scan(topic, offset, 1)?.first().and_then(|(_, record)| accepted_at(record)));
            first_from(shared.bounds(topic)?, at, time_at)
        })
        .await
    }

    async fn erase_key(&self, topic: Topic, key: Bytes, before: u64) -> Result<KeyErasure, StorageError> {
        let emptied = self.writer.ask(|reply| LogJob::EraseKey { topic, key, before, reply }).await?;
        Ok(KeyErasure::Emptied(emptied))
    }

    async fn forget_dedup_before(&self, day: i64) -> Result<(), StorageError> {
        self.writer.ask(|reply| LogJob::ForgetDedup { day, reply }).await
    }
}

impl Shared {
    fn bounds(&self, topic: Topic) -> Result<Bounds, StorageError> {
        let end = *self.ends[topic as usize].borrow();
        let start = match self.topics[topic as usize].first_key_value() {
            Some(guard) => offset(&guard.key()?)?.min(end),
            None => end,
        };
        Ok(Bounds { start, end })
    }

    /// Up to `max` durable records from `from` on.
    fn scan(&self, topic: Topic, from: u64, max: usize) -> Result<Vec<(u64, Record)>, StorageError> {
        // What lies beyond the end is being written.
        let end = *self.ends[topic as usize].borrow();
        let mut found = Vec::with_capacity(max.min(1_024));
        let mut bytes = 0;
        for guard in self.topics[topic as usize].range(from.to_be_bytes()..end.to_be_bytes()).take(max) {
            let (key, value) = guard.into_inner()?;
            let at = offset(&key)?;
            let stored = LogRecord::decode(Bytes::copy_from_slice(&value))
                .map_err(|_| StorageError::corrupt(format!("record {at} of {}", topic.as_str())))?;
            let record = Record { key: stored.key, value: stored.value, traceparent: stored.traceparent };
            bytes += record.bytes();
            found.push((at, record));
            if bytes >= MAX_READ_BYTES {
                break;
            }
        }
        Ok(found)
    }

    fn write(&self, jobs: Vec<LogJob>) {
        let mut appends = Vec::with_capacity(jobs.len());
        let mut forgets = Vec::new();
        let mut erasures = Vec::new();
        for job in jobs {
            match job {
                LogJob::Append { topic, records, reply, .. } => appends.push((topic, records, reply)),
                LogJob::ForgetDedup { day, reply } => forgets.push((day, reply)),
                LogJob::EraseKey { topic, key, before, reply } => erasures.push((topic, key, before, reply)),
            }
        }
        let (calls, replies): (Vec<_>, Vec<_>) = appends.into_iter().map(|(t, r, reply)| ((t, r), reply)).unzip();
        match self.commit(calls) {
            Ok(answers) => replies.into_iter().zip(answers).for_each(|(reply, answer)| drop(reply.send(Ok(answer)))),
            Err(e) => replies.into_iter().for_each(|reply| drop(reply.send(Err(e.clone())))),
        }
        for (day, reply) in forgets {
            drop(reply.send(self.engine.remove_below(&self.dedup, &day_bytes(day)).map(drop)));
        }
        for (topic, key, before, reply) in erasures {
            drop(reply.send(self.erase(topic, &key, before)));
        }
    }

    /// One pass over the topic, in one durable batch.
    fn erase(&self, topic: Topic, key: &Bytes, before: u64) -> Result<u64, StorageError> {
        let mut batch = self.engine.batch();
        let mut erased = 0;
        let (mut from, before) = (0, before.min(*self.ends[topic as usize].borrow()));
        while from < before {
            let found = self.scan(topic, from, ERASE_BATCH.min((before - from) as usize))?;
            let Some((last, _)) = found.last() else { break };
            from = last + 1;
            for (at, record) in found.iter().filter(|(_, record)| record.key == *key) {
                let empty = LogRecord::default().encode_to_vec();
                batch.insert(&self.topics[topic as usize], at.to_be_bytes().as_slice(), empty);
                erased += u64::from(!record.key.is_empty());
            }
        }
        self.engine.commit(batch)?;
        Ok(erased)
    }

    /// Writes all calls in one batch: all of it becomes durable, or nothing.
    fn commit(&self, calls: Vec<(Topic, Records)>) -> Result<Vec<Vec<Appended>>, StorageError> {
        let mut batch = self.engine.batch();
        let mut next: [u64; TOPICS] = std::array::from_fn(|i| *self.ends[i].borrow());
        let mut known = HashMap::new();
        let mut answers = Vec::with_capacity(calls.len());
        for (topic, records) in calls {
            let t = topic as usize;
            let mut answer = Vec::with_capacity(records.len());
            for (record, identity) in records {
                if let Some(identity) = identity {
                    let key = dedup_key(topic, &identity);
                    let earlier = match known.get(&key) {
                        Some(&at) => Some(at),
                        None => self.dedup.get(key)?.map(|at| offset(&at)).transpose()?,
                    };
                    if let Some(at) = earlier {
                        answer.push(Appended::Duplicate(at));
                        continue;
                    }
                    known.insert(key, next[t]);
                    batch.insert(&self.dedup, key.as_slice(), next[t].to_be_bytes().as_slice());
                }
                let Record { key, value, traceparent } = record;
                let stored = LogRecord { key, value, traceparent, ..Default::default() };
                batch.insert(&self.topics[t], next[t].to_be_bytes().as_slice(), stored.encode_to_vec());
                answer.push(Appended::New(next[t]));
                next[t] += 1;
            }
            answers.push(answer);
        }
        self.engine.commit(batch)?;
        for (end, next) in self.ends.iter().zip(next) {
            end.send_if_modified(|end| std::mem::replace(end, next) != next);
        }
        Ok(answers)
    }
}

/// Day first, so that old days are one range; the identity as its digest, which is short and tells nothing.
fn dedup_key(topic: Topic, identity: &DedupKey) -> [u8; 25] {
    let mut key = [0; 25];
    key[..8].copy_from_slice(&day_bytes(identity.day));
    key[8] = topic as u8;
    key[9..].copy_from_slice(&ObjectHash::of(&identity.identity).0);
    key
}

fn offset(bytes: &[u8]) -> Result<u64, StorageError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| StorageError::corrupt("offset in the event log"))
}
