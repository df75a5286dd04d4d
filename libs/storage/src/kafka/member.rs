//! A place in a consumer group: it brings partitions, and tells Kafka how far their effects have come.
//!
//! Records are read elsewhere, from where the store stands; the consumer here has its partitions paused. Partitions
//! move one by one (cooperative rebalancing), so those that stay are consumed on.

use super::client::{Client, Observer, unavailable};
use super::options::KafkaOptions;
use crate::{Applied, Membership, StorageError, Topic, first_offset, partition_of};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, TopicPartitionList};
use std::time::Duration;
use tokio::sync::watch;

const COMMIT_EVERY: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);
/// The client's default. It takes no session that is longer.
const LEAST_POLL_INTERVAL: Duration = Duration::from_secs(300);
const ENTER_AGAIN: Duration = Duration::from_secs(1);

/// Begins to join; partitions come when the group has settled.
pub(super) fn join(options: &KafkaOptions, observer: &Observer, group: &str) -> Result<Membership, StorageError> {
    let (partitions, here) = watch::channel(Vec::new());
    let applied = Applied::default();
    let place = Place {
        options: options.clone(),
        observer: observer.clone(),
        group: format!("{}{group}", options.topic_prefix),
        topic: options.topic(Topic::UserEvents),
        partitions,
        applied: applied.clone(),
    };
    let consumer = place.enter()?;
    tokio::spawn(place.keep(consumer));
    Ok(Membership::shared(here, applied))
}

struct Place {
    options: KafkaOptions,
    observer: Observer,
    group: String,
    topic: String,
    partitions: watch::Sender<Vec<u16>>,
    applied: Applied,
}

impl Place {
    fn enter(&self) -> Result<StreamConsumer<Member>, StorageError> {
        let session = self.options.session_timeout;
        let client = Client::new(&self.options, &self.observer)
            .set("group.id", &self.group)
            .set("group.instance.id", &self.options.instance)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session.as_millis().to_string())
            .set("max.poll.interval.ms", session.max(LEAST_POLL_INTERVAL).as_millis().to_string())
            .set("heartbeat.interval.ms", (session / 6).as_millis().to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "latest")
            .set("queued.min.messages", "1");
        let member = Member { observer: self.observer.clone(), partitions: self.partitions.clone() };
        let consumer: StreamConsumer<Member> = client.make(member)?;
        consumer.subscribe(&[&self.topic]).map_err(|e| unavailable(&e))?;
        Ok(consumer)
    }

    /// Keeps the place until nobody wants it.
    async fn keep(self, mut consumer: StreamConsumer<Member>) {
        let mut commits = tokio::time::interval(COMMIT_EVERY);
        loop {
            let received = tokio::select! {
                () = self.partitions.closed() => break,
                _ = commits.tick() => {
                    commit(&consumer, &self.topic, &self.applied);
                    continue;
                }
                received = consumer.recv() => received.map(drop),
            };
            // What is received was fetched before its partition was paused.
            let Err(error) = received else { continue };
            tokio::time::sleep(PAUSE).await;
            let code = error.rdkafka_error_code();
            if matches!(code, Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId)) {
                // The group knows this name by another member: of a process that took it over, or of ours, whose answer
                // was lost with a broker. Only entering anew tells.
                self.partitions.send_replace(Vec::new());
                tokio::time::sleep(ENTER_AGAIN).await;
                if let Ok(fresh) = self.enter() {
                    let old = std::mem::replace(&mut consumer, fresh);
                    tokio::task::spawn_blocking(move || drop(old));
                }
            }
        }
        commit(&consumer, &self.topic, &self.applied);
        // Leaving waits for the brokers.
        tokio::task::spawn_blocking(move || drop(consumer));
    }
}

/// For those who watch the group: where a consumer goes on is in the store.
fn commit(consumer: &StreamConsumer<Member>, topic: &str, applied: &Applied) {
    let mut list = TopicPartitionList::new();
    for (partition, next) in applied.take() {
        let offset = Offset::Offset((next - first_offset(partition_of(next))) as i64);
        let _ = list.add_partition_offset(topic, partition.into(), offset);
    }
    if list.count() > 0 {
        let _ = consumer.commit(&list, CommitMode::Async);
    }
}

struct Member {
    observer: Observer,
    partitions: watch::Sender<Vec<u16>>,
}

fn numbers(list: &TopicPartitionList) -> Vec<u16> {
    list.elements().iter().filter_map(|element| u16::try_from(element.partition()).ok()).collect()
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.observer.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.observer.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.observer.stats(statistics);
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(gone) = rebalance {
            let gone = numbers(gone);
            self.partitions.send_modify(|mine| mine.retain(|partition| !gone.contains(partition)));
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(new) = rebalance {
            let _ = consumer.pause(new);
            let new = numbers(new);
            self.partitions.send_modify(|mine| {
                mine.extend(new);
                mine.sort_unstable();
                mine.dedup();
            });
        }
    }
}
