//! Reading: a consumer a place, kept so that a reader who goes on finds it where the last read ended.

use super::append::TRACE_HEADER;
use super::client::{Client, Observer, unavailable};
use super::ends::Ends;
use super::options::KafkaOptions;
use crate::{MAX_READ_BYTES, Record, StorageError, Topic, first_offset, partition_of};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// Consumers kept for readers who may come back. Each has a few threads, which sleep.
const MAX_IDLE: usize = 64;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How soon a record is wanted: brokers answer a fetch at once, or when there is much to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Prompt,
    Leisure,
}

impl Pace {
    fn fetch_min_bytes(self) -> &'static str {
        match self {
            Self::Prompt => "1",
            Self::Leisure => "262144",
        }
    }
}

pub(super) struct Readers {
    options: Arc<KafkaOptions>,
    observer: Observer,
    ends: Arc<Ends>,
    /// The one used last at the end.
    all: Mutex<Vec<Arc<tokio::sync::Mutex<Reader>>>>,
}

struct Reader {
    pace: Pace,
    topic: Topic,
    /// Offset of what `waiting` begins with, or else of what the consumer brings next.
    next: u64,
    /// Received and not yet given to anybody.
    waiting: VecDeque<(u64, Record)>,
    consumer: Option<StreamConsumer<Observer>>,
    /// The consumer goes on there: not while the topic's start is looked for, and never again where that failed or was
    /// given up.
    stands: bool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Ending a consumer waits for its threads.
        if let Some(consumer) = self.consumer.take() {
            std::thread::spawn(move || drop(consumer));
        }
    }
}

impl Readers {
    pub(super) fn new(options: Arc<KafkaOptions>, observer: Observer, ends: Arc<Ends>) -> Self {
        Self { options, observer, ends, all: Mutex::default() }
    }

    pub(super) async fn read(
        &self,
        pace: Pace,
        topic: Topic,
        from: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Record)>, StorageError> {
        let (slot, mut reader) = self.at(pace, topic, from)?;
        let is_there = self.ends.is_below(topic, from);
        let wait = if is_there { wait.max(self.options.timeout) } else { wait };
        let found = match reader.read(&self.options, from, max, Instant::now() + wait).await {
            Ok(found) if found.is_empty() && is_there => Err(StorageError::Unavailable),
            found => found,
        };
        // With one of three brokers gone for a minute, consumers that were kept brought nothing more in time.
        if found.is_err() {
            self.all.lock().retain(|other| !Arc::ptr_eq(other, &slot));
        }
        found
    }

    /// The idle reader that stands there, or a new one.
    fn at(
        &self,
        pace: Pace,
        topic: Topic,
        from: u64,
    ) -> Result<(Arc<tokio::sync::Mutex<Reader>>, OwnedMutexGuard<Reader>), StorageError> {
        let mut all = self.all.lock();
        all.retain(|slot| slot.try_lock().map_or(true, |reader| reader.stands));
        let found = all.iter().enumerate().rev().find_map(|(place, slot)| {
            let reader = Arc::clone(slot).try_lock_owned().ok()?;
            ((reader.pace, reader.topic, reader.next) == (pace, topic, from)).then_some((place, reader))
        });
        if let Some((place, reader)) = found {
            let slot = all.remove(place);
            all.push(Arc::clone(&slot));
            return Ok((slot, reader));
        }
        if all.len() >= MAX_IDLE
            && let Some(idle) = all.iter().position(|slot| slot.try_lock().is_ok())
        {
            all.remove(idle);
        }
        let reader = Reader::start(&self.options, &self.observer, pace, topic, from)?;
        let slot = Arc::new(tokio::sync::Mutex::new(reader));
        let reader = Arc::clone(&slot).try_lock_owned().map_err(|e| StorageError::Io(e.to_string()))?;
        all.push(Arc::clone(&slot));
        Ok((slot, reader))
    }
}

impl Reader {
    fn start(
        options: &KafkaOptions,
        observer: &Observer,
        pace: Pace,
        topic: Topic,
        from: u64,
    ) -> Result<Self, StorageError> {
        let consumer: StreamConsumer<Observer> = Client::new(options, observer)
            .set("fetch.wait.max.ms", "500")
            .set("fetch.min.bytes", pace.fetch_min_bytes())
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", "16384")
            .consumer("reader")?;
        let mut reader =
            Self { pace, topic, next: from, waiting: VecDeque::new(), consumer: Some(consumer), stands: false };
        reader.assign(options, from)?;
        Ok(reader)
    }

    fn assign(&mut self, options: &KafkaOptions, from: u64) -> Result<(), StorageError> {
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = Offset::Offset((from - first_offset(partition_of(from))) as i64);
        let consumer = self.consumer.as_ref().ok_or(StorageError::Unavailable)?;
        list.add_partition_offset(&options.topic(self.topic), partition_of(from).into(), offset)
            .and_then(|()| consumer.assign(&list))
            .map_err(|e| unavailable(&e))?;
        self.next = from;
        self.stands = true;
        Ok(())
    }

    /// May be given up at any await: what was received stays here.
    async fn read(
        &mut self,
        options: &KafkaOptions,
        from: u64,
        max: usize,
        deadline: Instant,
    ) -> Result<Vec<(u64, Record)>, StorageError> {
        loop {
            match self.receive(max, deadline).await {
                Ok(()) => return Ok(self.take(max)),
                Err(error) if is_out_of_range(&error) => {
                    self.stands = false;
                    let start = self.start_of(options, from).await?;
                    if from >= start {
                        // Beyond the end, where the consumer gives up.
                        let again = Instant::now() + LOOK_AGAIN;
                        tokio::time::sleep_until(again.min(deadline)).await;
                        if again > deadline {
                            return Ok(Vec::new());
                        }
                    }
                    self.assign(options, from.max(start))?;
                }
                Err(error) => return Err(unavailable(&error)),
            }
        }
    }

    /// Fills `waiting` with what is there, up to a read's worth; waits for the first record until the deadline.
    async fn receive(&mut self, max: usize, deadline: Instant) -> Result<(), KafkaError> {
        let Some(consumer) = &self.consumer else { return Ok(()) };
        let mut bytes: usize = self.waiting.iter().map(|(_, record)| record.bytes()).sum();
        let mut stream = consumer.stream();
        while self.waiting.len() < max && bytes < MAX_READ_BYTES {
            let received = match stream.next().now_or_never() {
                Some(received) => received,
                None if !self.waiting.is_empty() => return Ok(()),
                None => match tokio::time::timeout_at(deadline, stream.next()).await {
                    Ok(received) => received,
                    Err(_) => return Ok(()),
                },
            };
            match received {
                Some(Ok(message)) => {
                    let placed = record(&message);
                    bytes += placed.1.bytes();
                    self.waiting.push_back(placed);
                }
                // Connections come and go; what matters is whether records come.
                Some(Err(error)) if !self.waiting.is_empty() && !is_out_of_range(&error) => return Ok(()),
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn take(&mut self, max: usize) -> Vec<(u64, Record)> {
        let mut bytes = 0;
        let mut found = Vec::with_capacity(max.min(self.waiting.len()));
        while found.len() < max
            && bytes < MAX_READ_BYTES
            && let Some((offset, record)) = self.waiting.pop_front()
        {
            bytes += record.bytes();
            self.next = offset + 1;
            found.push((offset, record));
        }
        found
    }

    /// The first offset that is still there.
    async fn start_of(&mut self, options: &KafkaOptions, from: u64) -> Result<u64, StorageError> {
        let consumer = self.consumer.take().ok_or(StorageError::Unavailable)?;
        let (name, partition, limit) = (options.topic(self.topic), partition_of(from), options.timeout);
        let asked = tokio::task::spawn_blocking(move || {
            let marks = consumer.fetch_watermarks(&name, partition.into(), limit);
            (consumer, marks)
        });
        let (consumer, marks) = asked.await.map_err(|e| StorageError::Io(e.to_string()))?;
        self.consumer = Some(consumer);
        let (low, _) = marks.map_err(|e| unavailable(&e))?;
        Ok(first_offset(partition) + low.unsigned_abs())
    }
}

fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange))
}

fn record(message: &BorrowedMessage<'_>) -> (u64, Record) {
    let bytes = |part: Option<&[u8]>| part.map(Bytes::copy_from_slice).unwrap_or_default();
    let trace = message.headers().and_then(|headers| headers.iter().find(|header| header.key == TRACE_HEADER));
    let trace = trace.and_then(|header| std::str::from_utf8(header.value?).ok());
    let partition = u16::try_from(message.partition()).unwrap_or_default();
    let record = Record {
        key: bytes(message.key()),
        value: bytes(message.payload()),
        traceparent: trace.unwrap_or_default().to_owned(),
    };
    (first_offset(partition) + message.offset().unsigned_abs(), record)
}
