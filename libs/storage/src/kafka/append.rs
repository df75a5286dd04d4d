//! Writing: everything of a call is handed over at once, and waited for together.

use super::client::{Client, Observer, unavailable};
use super::ends::Ends;
use super::options::KafkaOptions;
use super::recent::Recent;
use crate::{Appended, DedupKey, Record, StorageError, Topic, first_offset, partition_for};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use std::collections::HashMap;
use std::sync::Arc;

/// Version of the messages on the topics; consumers of another major version do not read them.
pub(super) const SCHEMA_VERSION: &str = "1";

pub(super) struct Appender {
    options: Arc<KafkaOptions>,
    observer: Observer,
    partitions: u16,
    producer: ArcSwap<FutureProducer<Observer>>,
    recent: Mutex<Recent>,
    ends: Arc<Ends>,
    /// Held while a call's records are handed over, so that they stay together.
    handing_over: Mutex<()>,
}

/// A record of a call: on its way, or known.
enum Sent {
    OnItsWay(DeliveryFuture, Option<DedupKey>),
    Known(u64),
    /// As the one at this place of the same call.
    SameAs(usize),
}

impl Appender {
    pub(super) fn new(
        options: Arc<KafkaOptions>,
        observer: Observer,
        partitions: u16,
        ends: Arc<Ends>,
    ) -> Result<Self, StorageError> {
        let producer = ArcSwap::from_pointee(producer(&options, &observer)?);
        Ok(Self {
            options,
            observer,
            partitions,
            producer,
            recent: Mutex::default(),
            ends,
            handing_over: Mutex::default(),
        })
    }

    pub(super) async fn append(
        &self,
        topic: Topic,
        records: Vec<(Record, Option<DedupKey>)>,
    ) -> Result<Vec<Appended>, StorageError> {
        let (sent, refused) = self.hand_over(topic, records);
        let mut appended = Vec::with_capacity(sent.len());
        let mut failed = None;
        for sent in sent {
            appended.push(match sent {
                Sent::Known(offset) => Appended::Duplicate(offset),
                Sent::SameAs(place) => Appended::Duplicate(appended.get(place).map_or(0, |a: &Appended| a.offset())),
                Sent::OnItsWay(delivery, identity) => match delivery.await {
                    Ok(Ok(delivered)) => {
                        let partition = u16::try_from(delivered.partition).unwrap_or_default();
                        let offset = first_offset(partition) + delivered.offset.unsigned_abs();
                        self.ends.reach(topic, offset + 1);
                        if let Some(identity) = identity {
                            self.recent.lock().add(topic, &identity, offset);
                        }
                        Appended::New(offset)
                    }
                    Ok(Err((error, _))) => {
                        self.renew_after(&error)?;
                        failed.get_or_insert(unavailable(&error));
                        Appended::New(0)
                    }
                    // The producer is gone, and with it what it had to send.
                    Err(_) => {
                        failed.get_or_insert(StorageError::Unavailable);
                        Appended::New(0)
                    }
                },
            });
        }
        match failed.or(refused) {
            None => Ok(appended),
            Some(error) => Err(error),
        }
    }

    pub(super) fn forget_before(&self, day: i64) {
        self.recent.lock().forget_before(day);
    }

    /// Gives what was handed over, and why that is not all.
    fn hand_over(&self, topic: Topic, records: Vec<(Record, Option<DedupKey>)>) -> (Vec<Sent>, Option<StorageError>) {
        let name = self.options.topic(topic);
        let producer = self.producer.load();
        let mut sent = Vec::with_capacity(records.len());
        let mut here: HashMap<DedupKey, usize> = HashMap::new();
        let _together = self.handing_over.lock();
        for (record, identity) in records {
            if let Some(identity) = &identity {
                if let Some(offset) = self.recent.lock().find(topic, identity) {
                    sent.push(Sent::Known(offset));
                    continue;
                }
                if let Some(&place) = here.get(identity) {
                    sent.push(Sent::SameAs(place));
                    continue;
                }
                here.insert(identity.clone(), sent.len());
            }
            let partition = if topic.is_partitioned() { partition_for(&record.key, self.partitions) } else { 0 };
            let message = FutureRecord::to(&name)
                .partition(partition.into())
                .key(&record.key[..])
                .payload(&record.value[..])
                .headers(headers(topic, &record));
            match producer.send_result(message) {
                Ok(delivery) => sent.push(Sent::OnItsWay(delivery, identity)),
                Err((error, _)) => {
                    let error = self.renew_after(&error).err().unwrap_or_else(|| unavailable(&error));
                    // What was handed over may yet be written: then this call may not say that nothing was.
                    let error = if sent.is_empty() { error } else { StorageError::Unavailable };
                    return (sent, Some(error));
                }
            }
        }
        (sent, None)
    }

    /// An idempotent producer that lost its place says so for ever: a new one takes over.
    fn renew_after(&self, error: &KafkaError) -> Result<(), StorageError> {
        let fatal = error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
            || self.producer.load().client().fatal_error().is_some();
        if fatal {
            self.producer.store(Arc::new(producer(&self.options, &self.observer)?));
        }
        Ok(())
    }
}

fn producer(options: &KafkaOptions, observer: &Observer) -> Result<FutureProducer<Observer>, StorageError> {
    Client::new(options, observer)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "1")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536")
        .set("message.timeout.ms", options.timeout.as_millis().to_string())
        .make(observer.clone())
}

/// CloudEvents in Kafka's binary mode: <https://github.com/cloudevents/spec>, `kafka-protocol-binding.md`.
fn headers(topic: Topic, record: &Record) -> OwnedHeaders {
    let header = |key, value| Header { key, value: Some(value) };
    let mut headers = OwnedHeaders::new_with_capacity(5)
        .insert(header("ce_specversion", "1.0"))
        .insert(header("ce_type", topic.as_str()))
        .insert(header("ce_source", "attune"))
        .insert(header(SCHEMA_HEADER, SCHEMA_VERSION))
        .insert(header("content-type", "application/protobuf"));
    if !record.traceparent.is_empty() {
        headers = headers.insert(header(TRACE_HEADER, &record.traceparent));
    }
    headers
}

pub(super) const TRACE_HEADER: &str = "traceparent";
pub(super) const SCHEMA_HEADER: &str = "schemaversion";
