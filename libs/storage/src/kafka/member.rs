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

/// Begins to join; partitions come when the group has settled.
pub(super) fn join(options: &KafkaOptions, observer: &Observer, group: &str) -> Result<Membership, StorageError> {
    let (partitions, here) = watch::channel(Vec::new());
    let applied = Applied::default();
    let name = options.topic(Topic::UserEvents);
    let client = Client::new(options, observer)
        .set("group.id", format!("{}{group}", options.topic_prefix))
        .set("group.instance.id", &options.instance)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", options.session_timeout.as_millis().to_string())
        .set("heartbeat.interval.ms", (options.session_timeout / 6).as_millis().to_string())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "latest")
        .set("queued.min.messages", "1");
    let consumer: StreamConsumer<Member> = client.make(Member { observer: observer.clone(), partitions })?;
    consumer.subscribe(&[&name]).map_err(|e| unavailable(&e))?;
    tokio::spawn(stay(consumer, name, applied.clone()));
    Ok(Membership::shared(here, applied))
}

/// Keeps the place until nobody wants it.
async fn stay(consumer: StreamConsumer<Member>, topic: String, applied: Applied) {
    let left = consumer.context().partitions.clone();
    let mut commits = tokio::time::interval(COMMIT_EVERY);
    loop {
        tokio::select! {
            () = left.closed() => break,
            _ = commits.tick() => commit(&consumer, &topic, &applied),
            received = consumer.recv() => match received {
                // Fetched before the partition was paused.
                Ok(_) => {}
                Err(error) => {
                    if matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId)) {
                        // Another process has this name: the partitions are its own.
                        left.send_replace(Vec::new());
                        left.closed().await;
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    commit(&consumer, &topic, &applied);
    // Leaving waits for the brokers.
    tokio::task::spawn_blocking(move || drop(consumer));
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
