//! The topics: made where they are missing, and checked.

use super::client::{Client, Observer};
use super::options::KafkaOptions;
use crate::{MAX_PARTITIONS, MAX_RECORD_BYTES, StorageError, Topic};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A record, its headers and frame.
pub(super) const MAX_MESSAGE_BYTES: usize = MAX_RECORD_BYTES + (64 << 10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Makes what is missing. Gives the number of partitions of the partitioned topics.
pub(super) async fn prepare(
    options: &KafkaOptions,
    observer: &Observer,
    asking: &Arc<BaseConsumer<Observer>>,
) -> Result<u16, StorageError> {
    options.check()?;
    let limit = Instant::now() + 2 * options.timeout;
    let mut found = partition_counts(options, observer, asking).await?;
    let missing: Vec<_> = Topic::ALL.into_iter().filter(|topic| !found.contains_key(&options.topic(*topic))).collect();
    if !missing.is_empty() {
        create(options, observer, &missing).await?;
    }
    while Topic::ALL.iter().any(|topic| !found.contains_key(&options.topic(*topic))) {
        if Instant::now() > limit {
            return Err(away(options, "the topics that were just made do not appear"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        found = partition_counts(options, observer, asking).await?;
    }
    let count = |topic| found.get(&options.topic(topic)).copied().unwrap_or(0);
    let partitions = count(Topic::UserEvents);
    for topic in Topic::ALL {
        let expected = if topic.is_partitioned() { partitions } else { 1 };
        if count(topic) != expected {
            let problem = format!("has {} partitions and must have {expected}", count(topic));
            return Err(StorageError::invalid(&options.topic(topic), problem));
        }
    }
    u16::try_from(partitions).ok().filter(|&n| n <= MAX_PARTITIONS).ok_or_else(|| {
        StorageError::invalid(
            &options.topic(Topic::UserEvents),
            format!("must have at most {MAX_PARTITIONS} partitions"),
        )
    })
}

fn away(options: &KafkaOptions, reason: impl Into<String>) -> StorageError {
    StorageError::Connect { address: format!("kafka://{}", options.brokers), reason: reason.into() }
}

/// Partitions of every topic there is, by name.
async fn partition_counts(
    options: &KafkaOptions,
    observer: &Observer,
    asking: &Arc<BaseConsumer<Observer>>,
) -> Result<BTreeMap<String, usize>, StorageError> {
    let (client, limit) = (Arc::clone(asking), options.timeout);
    let asked = tokio::task::spawn_blocking(move || {
        let metadata = client.fetch_metadata(None, limit);
        // What a client has to say is heard while it is polled.
        while client.poll(Duration::from_millis(10)).is_some() {}
        metadata
    });
    match asked.await.map_err(|e| StorageError::Io(e.to_string()))? {
        Ok(metadata) => {
            let here =
                metadata.topics().iter().filter(|topic| topic.error().is_none() && !topic.partitions().is_empty());
            Ok(here.map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
        }
        Err(e) => Err(away(options, observer.last_error().unwrap_or_else(|| e.to_string()))),
    }
}

async fn create(options: &KafkaOptions, observer: &Observer, topics: &[Topic]) -> Result<(), StorageError> {
    let admin: AdminClient<Observer> = Client::new(options, observer).make(observer.clone())?;
    let named: Vec<_> = topics.iter().map(|&topic| (options.topic(topic), topic)).collect();
    let settings: Vec<_> = named.iter().map(|&(_, topic)| settings(options, topic)).collect();
    let new: Vec<_> = named
        .iter()
        .zip(&settings)
        .map(|((name, topic), settings)| {
            let partitions = if topic.is_partitioned() { i32::from(options.partitions) } else { 1 };
            let new = NewTopic::new(name, partitions, TopicReplication::Fixed(options.replication.into()));
            settings.iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let limit = AdminOptions::new().operation_timeout(Some(options.timeout)).request_timeout(Some(options.timeout));
    let made = admin.create_topics(&new, &limit).await.map_err(|e: KafkaError| away(options, e.to_string()))?;
    for (topic, code) in made.into_iter().filter_map(Result::err) {
        // Another process of the platform may have been quicker.
        if code != RDKafkaErrorCode::TopicAlreadyExists {
            return Err(away(options, format!("make topic {topic}: {code}")));
        }
    }
    Ok(())
}

fn settings(options: &KafkaOptions, topic: Topic) -> Vec<(&'static str, String)> {
    let millis = |time: Duration| time.as_millis().to_string();
    let mut settings = vec![("max.message.bytes", MAX_MESSAGE_BYTES.to_string())];
    if options.replication >= 3 {
        settings.push(("min.insync.replicas", "2".to_owned()));
    }
    match topic {
        Topic::UserEvents | Topic::UserEventsDead => settings.push(("retention.ms", millis(options.retention))),
        // The last attributes of a visitor are all that counts, and older ones must be gone in time.
        Topic::UserUpdates => settings.extend([
            ("cleanup.policy", "compact".to_owned()),
            ("max.compaction.lag.ms", millis(options.retention)),
            ("segment.ms", millis(options.retention / 4)),
        ]),
        Topic::ItemUpdates => settings.push(("retention.ms", "-1".to_owned())),
        // Who missed these asks for the state itself.
        Topic::StateVersions | Topic::TraceDecisions => {
            let hour = Duration::from_secs(3_600);
            settings.extend([("retention.ms", millis(hour)), ("segment.ms", millis(hour / 4))]);
        }
    }
    settings
}
