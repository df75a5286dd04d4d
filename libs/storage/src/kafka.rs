//! The event log on Apache Kafka.
//!
//! Always holds: `Ok` from an append means that every in-sync replica has the record (`acks=all`, idempotent producer);
//! records of a key keep their order; a reader is given each record once, also when its read is given up half-way.
//! What Kafka does not do, and who does instead: identities are remembered here for a while only, so a record may stand
//! twice, and consumers give it one effect; records cannot be emptied, so an erased visitor's go with the topic's
//! retention. Offsets are dense, except where `user-updates` has been compacted.

mod append;
mod client;
mod ends;
mod member;
pub(crate) mod metrics;
mod options;
mod reader;
mod recent;
mod topics;

pub use client::KafkaHealth;
pub use options::{KafkaOptions, KafkaSasl, KafkaTls};

use crate::accepted::{check_topic, no_partition};
use crate::limits::append_bytes;
use crate::{
    Appended, Bounds, Clock, DedupKey, EventLog, KeyErasure, Membership, Record, StorageError, Topic, first_offset,
};
use append::Appender;
use async_trait::async_trait;
use attune_domain::UnixMillis;
use bytes::Bytes;
use client::{Client, Observer, unavailable};
use ends::Ends;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use reader::{Pace, Readers};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ASK_AGAIN: Duration = Duration::from_millis(50);

pub struct KafkaEventLog {
    options: Arc<KafkaOptions>,
    clock: Clock,
    /// Asks about topics, and reads none.
    asking: Arc<BaseConsumer<Observer>>,
    appender: Appender,
    readers: Readers,
    ends: Arc<Ends>,
    observer: Observer,
    /// Of the partitioned topics.
    partitions: u16,
}

impl KafkaEventLog {
    /// Finds the brokers and makes the topics that are not there. Fails within [`KafkaOptions::timeout`] or so, with
    /// the address and the reason.
    pub async fn connect(options: KafkaOptions, clock: Clock) -> Result<Self, StorageError> {
        let options = Arc::new(options);
        let observer = Observer::default();
        let asking: Arc<BaseConsumer<Observer>> = Arc::new(Client::new(&options, &observer).consumer("asking")?);
        let partitions = topics::prepare(&options, &observer, &asking).await?;
        let ends = Arc::new(Ends::default());
        let appender = Appender::new(Arc::clone(&options), observer.clone(), partitions, Arc::clone(&ends))?;
        let readers = Readers::new(Arc::clone(&options), observer.clone(), Arc::clone(&ends));
        Ok(Self { options, clock, asking, appender, readers, ends, observer, partitions })
    }

    /// What the client says about itself, for metrics.
    pub fn health(&self) -> KafkaHealth {
        self.observer.health()
    }

    /// Asks the leaders of all partitions, in one question each for the starts and the ends.
    async fn ask_bounds(&self, topic: Topic) -> Result<Vec<Bounds>, StorageError> {
        let (asking, limit) = (Arc::clone(&self.asking), self.options.timeout);
        let (name, count) = (self.options.topic(topic), self.count(topic));
        let asked = tokio::task::spawn_blocking(move || {
            // The protocol has special times for the first and for the next offset.
            let places = |of: Offset| {
                let mut list = TopicPartitionList::with_capacity(count.into());
                for partition in 0..count {
                    list.add_partition_offset(&name, partition.into(), of)?;
                }
                let answer = asking.offsets_for_times(list, limit)?;
                let place = |partition: u16| {
                    let element = answer.find_partition(&name, partition.into())?;
                    match (element.error(), element.offset()) {
                        (Ok(()), Offset::Offset(at)) => Some(first_offset(partition) + at.unsigned_abs()),
                        _ => None,
                    }
                };
                Ok::<_, KafkaError>((0..count).map(place).collect::<Option<Vec<_>>>())
            };
            Ok::<_, KafkaError>(places(Offset::Beginning)?.zip(places(Offset::End)?))
        });
        let asked = asked.await.map_err(|e| StorageError::Io(e.to_string()))?.map_err(|e| unavailable(&e))?;
        let (starts, ends) = asked.ok_or(StorageError::Unavailable)?;
        Ok(starts.into_iter().zip(ends).map(|(start, end)| Bounds { start, end }).collect())
    }

    /// By the time of writing, which is when a record was accepted. None where all are older.
    async fn ask_offset(&self, topic: Topic, partition: u16, time: Offset) -> Result<Option<u64>, StorageError> {
        let (asking, limit, name) = (Arc::clone(&self.asking), self.options.timeout, self.options.topic(topic));
        let asked = tokio::task::spawn_blocking(move || {
            let mut list = TopicPartitionList::with_capacity(1);
            list.add_partition_offset(&name, partition.into(), time)?;
            let answer = asking.offsets_for_times(list, limit)?;
            let element = answer.find_partition(&name, partition.into());
            match element.map(|element| (element.error(), element.offset())) {
                Some((Ok(()), Offset::Offset(at))) => Ok(Some(first_offset(partition) + at.unsigned_abs())),
                Some((Err(error), _)) => Err(error),
                _ => Ok(None),
            }
        });
        asked.await.map_err(|e| StorageError::Io(e.to_string()))?.map_err(|e| unavailable(&e))
    }

    async fn read_as(
        &self,
        pace: Pace,
        topic: Topic,
        from: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Record)>, StorageError> {
        if crate::partition_of(from) >= self.count(topic) {
            return Err(StorageError::invalid("from", "is in a partition that the topic does not have"));
        }
        if max == 0 {
            return Ok(Vec::new());
        }
        self.readers.read(pace, topic, from, max, wait).await
    }

    fn count(&self, topic: Topic) -> u16 {
        if topic.is_partitioned() { self.partitions } else { 1 }
    }
}

#[async_trait]
impl EventLog for KafkaEventLog {
    async fn append(
        &self,
        topic: Topic,
        records: Vec<(Record, Option<DedupKey>)>,
    ) -> Result<Vec<Appended>, StorageError> {
        append_bytes(records.iter().map(|(record, _)| record))?;
        self.appender.append(topic, records).await
    }

    async fn read(
        &self,
        topic: Topic,
        from: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Record)>, StorageError> {
        self.read_as(Pace::Prompt, topic, from, max, wait).await
    }

    async fn read_at_leisure(
        &self,
        topic: Topic,
        from: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Record)>, StorageError> {
        self.read_as(Pace::Leisure, topic, from, max, wait).await
    }

    async fn partitions(&self, topic: Topic) -> Result<Vec<Bounds>, StorageError> {
        let limit = Instant::now() + self.options.timeout;
        loop {
            match self.ask_bounds(topic).await {
                // A partition without a leader, for a moment.
                Err(StorageError::Unavailable) if Instant::now() < limit => tokio::time::sleep(ASK_AGAIN).await,
                Err(error) => return Err(error),
                Ok(bounds) => {
                    bounds.iter().for_each(|bounds| self.ends.reach(topic, bounds.end));
                    return Ok(bounds);
                }
            }
        }
    }

    async fn offset_at(&self, topic: Topic, partition: u16, at: UnixMillis) -> Result<u64, StorageError> {
        check_topic(topic)?;
        let Some(&bounds) = self.partitions(topic).await?.get(usize::from(partition)) else {
            return Err(no_partition(partition));
        };
        // Times below 0 mean something else to the protocol.
        let time = Offset::Offset(at.max(0));
        Ok(match self.ask_offset(topic, partition, time).await? {
            Some(offset) => offset.clamp(bounds.start, bounds.end),
            None => bounds.end,
        })
    }

    async fn erase_key(&self, _: Topic, _: Bytes, _: u64) -> Result<KeyErasure, StorageError> {
        let kept = i64::try_from(self.options.retention.as_millis()).unwrap_or(i64::MAX);
        Ok(KeyErasure::Retained { expires_at: Some((self.clock)().saturating_add(kept)) })
    }

    async fn forget_dedup_before(&self, day: i64) -> Result<(), StorageError> {
        self.appender.forget_before(day);
        Ok(())
    }

    async fn join(&self, group: &str) -> Result<Membership, StorageError> {
        member::join(&self.options, &self.observer, group)
    }
}
