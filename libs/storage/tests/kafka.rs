//! What only Kafka has: partitions, groups, brokers that die, records that expire.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_engines::{Engine, Kafka, KafkaOptions as BrokerOptions, Login, available};
use attune_storage::{
    Appended, EventLog, Follower, KafkaEventLog, KafkaOptions, KafkaSasl, KeyErasure, Membership, Record, StorageError,
    Topic, first_offset, partition_for, partition_of,
};
use bytes::Bytes;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::ClientConfig;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const NOW: i64 = 1_700_000_000_000;
const PARTITIONS: u16 = 4;
const LONG: Duration = Duration::from_secs(30);

fn options(bootstrap: &str, name: &str, instance: &str) -> KafkaOptions {
    let mut options = KafkaOptions::new(bootstrap, instance);
    options.topic_prefix = format!("{name}.");
    options.partitions = PARTITIONS;
    options.timeout = LONG;
    options.session_timeout = Duration::from_secs(2);
    options
}

async fn connect(options: KafkaOptions) -> Result<KafkaEventLog, StorageError> {
    KafkaEventLog::connect(options, Arc::new(|| NOW)).await
}

async fn shared(name: &str, instance: &str) -> Arc<dyn EventLog> {
    Arc::new(connect(options(&Kafka::shared().unwrap().bootstrap(), name, instance)).await.unwrap())
}

fn record(key: u32, value: u32) -> Record {
    let bytes = |n: u32| Bytes::copy_from_slice(&n.to_be_bytes());
    Record { key: bytes(key), value: bytes(value), traceparent: String::new() }
}

fn number(bytes: &Bytes) -> u32 {
    u32::from_be_bytes(bytes[..].try_into().unwrap())
}

/// Everything on a topic, in the order a follower reads it.
async fn all(log: &Arc<dyn EventLog>) -> Vec<(u64, Record)> {
    let mut missing: u64 =
        log.partitions(Topic::UserEvents).await.unwrap().iter().map(|bounds| bounds.end - bounds.start).sum();
    let mut follower = Follower::start(Arc::clone(log), Topic::UserEvents, |bounds| bounds.start).await.unwrap();
    let (mut records, begun) = (Vec::new(), Instant::now());
    while missing > 0 {
        let found = match follower.read(100, LONG).await {
            // What a reader met while nobody asked it: the next one is new.
            Err(StorageError::Unavailable) if begun.elapsed() < LONG => continue,
            found => found.unwrap(),
        };
        missing -= found.len() as u64;
        records.extend(found);
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_key_lie_in_one_partition_in_order() {
    if !available(Engine::Kafka, "records_of_a_key_lie_in_one_partition_in_order") {
        return;
    }
    let log = shared("keys", "a").await;
    for value in 0..20 {
        let records = (0..50).map(|key| (record(key, value), None)).collect();
        for (appended, key) in log.append(Topic::UserEvents, records).await.unwrap().into_iter().zip(0u32..) {
            assert_eq!(partition_of(appended.offset()), partition_for(&key.to_be_bytes(), PARTITIONS));
        }
    }
    let records = all(&log).await;
    assert_eq!(records.len(), 1_000);
    assert_eq!(records.iter().map(|(offset, _)| partition_of(*offset)).collect::<BTreeSet<_>>().len(), 4);
    let mut values: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut last: BTreeMap<u16, u64> = BTreeMap::new();
    for (offset, record) in &records {
        values.entry(number(&record.key)).or_default().push(number(&record.value));
        let before = last.insert(partition_of(*offset), *offset);
        assert!(before.map_or(first_offset(partition_of(*offset)), |before| before + 1) == *offset, "dense");
    }
    assert!(values.values().all(|values| values.iter().copied().eq(0..20)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_given_up_loses_nothing() {
    if !available(Engine::Kafka, "a_read_that_is_given_up_loses_nothing") {
        return;
    }
    let log = shared("given-up", "a").await;
    let writing = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            for value in 0..300 {
                log.append(Topic::ItemUpdates, vec![(record(0, value), None)]).await.unwrap();
            }
        }
    });
    let mut next = 0;
    while next < 300 {
        let read = log.read(Topic::ItemUpdates, next, 7, LONG);
        if let Ok(found) = tokio::time::timeout(Duration::from_micros(300), read).await {
            for (offset, record) in found.unwrap() {
                assert_eq!((offset, number(&record.value)), (next, next as u32));
                next += 1;
            }
        }
    }
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_group_share_the_partitions() {
    if !available(Engine::Kafka, "members_of_a_group_share_the_partitions") {
        return;
    }
    let (one, two) = (shared("group", "one").await, shared("group", "two").await);
    let until = async |member: &mut Membership, count: usize| loop {
        let partitions = tokio::time::timeout(LONG, member.changed()).await.unwrap();
        if partitions.len() == count {
            return partitions;
        }
    };
    let mut first = one.join("readers").await.unwrap();
    assert_eq!(until(&mut first, 4).await, [0, 1, 2, 3]);
    let mut second = two.join("readers").await.unwrap();
    let (mut mine, theirs) = (until(&mut first, 2).await, until(&mut second, 2).await);
    mine.extend(theirs);
    mine.sort_unstable();
    assert_eq!(mine, [0, 1, 2, 3]);
    drop(first);
    assert_eq!(until(&mut second, 4).await, [0, 1, 2, 3], "the one who left has none");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_killed_broker() {
    if !available(Engine::Kafka, "what_was_acknowledged_outlives_a_killed_broker") {
        return;
    }
    let mut kafka = Kafka::start(&BrokerOptions::default()).unwrap();
    let log: Arc<dyn EventLog> = Arc::new(connect(options(&kafka.bootstrap(), "killed", "a")).await.unwrap());
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let answers = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..4u32)
        .map(|writer| {
            let (log, stopping, answers) = (Arc::clone(&log), stopping.clone(), Arc::clone(&answers));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0.. {
                    if *stopping.borrow() {
                        break;
                    }
                    let values: Vec<_> = (0..5).map(|i| (writer << 24) | (n * 5 + i)).collect();
                    let records = values.iter().map(|&value| (record(value % 97, value), None)).collect();
                    if let Ok(appended) = log.append(Topic::UserEvents, records).await {
                        answers.fetch_add(1, Ordering::Relaxed);
                        acknowledged.extend(values.into_iter().zip(appended.into_iter().map(Appended::offset)));
                    }
                }
                acknowledged
            })
        })
        .collect();
    let reading = tokio::spawn({
        let (log, stopping) = (Arc::clone(&log), stopping.clone());
        async move {
            let mut follower =
                Follower::start(Arc::clone(&log), Topic::UserEvents, |bounds| bounds.start).await.unwrap();
            let mut seen = BTreeMap::new();
            while !*stopping.borrow() {
                match follower.read(1_000, Duration::from_millis(200)).await {
                    Ok(found) => seen.extend(found.into_iter().map(|(at, record)| (at, number(&record.value)))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            seen
        }
    });
    let answered = async |more: u64| {
        let enough = answers.load(Ordering::Relaxed) + more;
        while answers.load(Ordering::Relaxed) < enough {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    for _ in 0..3 {
        answered(200).await;
        tokio::task::block_in_place(|| {
            kafka.kill().unwrap();
            kafka.restart().unwrap();
        });
    }
    answered(200).await;
    stop.send_replace(true);
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let seen = reading.await.unwrap();
    let stands: BTreeMap<u64, u32> =
        all(&log).await.into_iter().map(|(offset, record)| (offset, number(&record.value))).collect();
    for (value, offset) in &acknowledged {
        assert_eq!(stands.get(offset), Some(value), "acknowledged at {offset}");
    }
    let mut times: BTreeMap<u32, u32> = BTreeMap::new();
    stands.values().for_each(|value| *times.entry(*value).or_default() += 1);
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "a producer that repeats must not double: {twice:?}");
    assert!(seen.iter().all(|(offset, value)| stands.get(offset) == Some(value)));
    println!("{} acknowledged, {} read meanwhile, {} in the log", acknowledged.len(), seen.len(), stands.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_begins_at_what_is_left() {
    if !available(Engine::Kafka, "reading_begins_at_what_is_left") {
        return;
    }
    let log = shared("expired", "a").await;
    log.append(Topic::ItemUpdates, (0..10).map(|n| (record(n, n), None)).collect()).await.unwrap();
    let admin: AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", Kafka::shared().unwrap().bootstrap()).create().unwrap();
    let mut before = TopicPartitionList::new();
    before.add_partition_offset("expired.item-updates", 0, Offset::Offset(6)).unwrap();
    admin.delete_records(&before, &AdminOptions::new().operation_timeout(Some(LONG))).await.unwrap();
    let bounds = log.bounds(Topic::ItemUpdates).await.unwrap();
    assert_eq!((bounds.start, bounds.end), (6, 10));
    // Given up at every step of the search for what is left, and asked again.
    for step in 0..60 {
        let read = log.read(Topic::ItemUpdates, 0, 100, LONG);
        if let Ok(found) = tokio::time::timeout(Duration::from_micros(step * 500), read).await {
            assert_eq!(found.unwrap().first().map(|(at, _)| *at), Some(6));
        }
    }
    let found = log.read(Topic::ItemUpdates, 0, 100, LONG).await.unwrap();
    assert!(found.iter().map(|(at, record)| (*at, u64::from(number(&record.value)))).eq((6..10).map(|n| (n, n))));
    let erased = log.erase_key(Topic::UserEvents, Bytes::from_static(b"a"), 3).await.unwrap();
    assert_eq!(erased, KeyErasure::Retained { expires_at: Some(NOW + 45 * 86_400_000) });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_be_used_is_named_with_the_reason() {
    let mut nowhere = options("127.0.0.1:1", "nowhere", "a");
    nowhere.timeout = Duration::from_secs(2);
    let refused = connect(nowhere).await.err().unwrap();
    assert_eq!(refused.exit_code(), 75);
    let text = refused.to_string();
    assert!(text.contains("kafka://127.0.0.1:1") && text.contains("Connection refused"), "{text}");

    if !available(Engine::Kafka, "a_broker_that_cannot_be_used_is_named_with_the_reason") {
        return;
    }
    let login = Login { user: "attune".into(), password: "right".into() };
    let kafka = Kafka::start(&BrokerOptions { login: Some(login), ..Default::default() }).unwrap();
    let with = |password: &str| {
        let mut options = options(&kafka.bootstrap(), "login", "a");
        options.sasl =
            Some(KafkaSasl { mechanism: "PLAIN".into(), username: "attune".into(), password: password.into() });
        options.timeout = Duration::from_secs(10);
        options
    };
    let text = connect(with("wrong")).await.err().unwrap().to_string();
    assert!(text.contains(&kafka.bootstrap()) && text.to_lowercase().contains("authentication"), "{text}");
    let log = connect(with("right")).await.unwrap();
    log.append(Topic::UserEvents, vec![(record(1, 1), None)]).await.unwrap();
}
