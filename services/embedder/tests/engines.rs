//! The consumer on a real Kafka and a real Redis: what strangers write to its topics stops nothing, and who was erased
//! stays erased when a store that lost everything is filled from the log again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/bed.rs"]
mod bed;

use attune_domain::{EventKind, UserState};
use attune_embedder::{Embedder, EmbedderConfig};
use attune_engines::{Engine, Kafka, Redis, available};
use attune_proto::state::v1 as wire;
use attune_storage::{
    Follower, KafkaEventLog, KafkaOptions, MAX_RECORD_BYTES, Record, RedisFeatureStore, RedisOptions, Topic,
    USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER, first_offset, partition_for, partition_of,
};
use bed::*;
use bytes::Bytes;
use prost::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const PARTITIONS: u16 = 4;
const LONG: Duration = Duration::from_secs(30);

/// A log and a store of this test's own; none where an engine is missing.
async fn engines(test: &str) -> Option<Bed> {
    if !available(Engine::Kafka, test) || !available(Engine::Redis, test) {
        return None;
    }
    let mut kafka = KafkaOptions::new(Kafka::shared().unwrap().bootstrap(), "a");
    kafka.topic_prefix = format!("{test}.");
    (kafka.partitions, kafka.timeout) = (PARTITIONS, LONG);
    let log = KafkaEventLog::connect(kafka, clock()).await.unwrap();
    Some(Bed::on(Arc::new(log), Arc::new(store(test).await)))
}

async fn store(prefix: &str) -> RedisFeatureStore {
    let options =
        RedisOptions { prefix: prefix.to_owned(), ..RedisOptions::new(Redis::shared().unwrap().url(), PARTITIONS) };
    RedisFeatureStore::connect(options, EmbedderConfig::default().feature_options(clock())).await.unwrap()
}

/// Writes a visitor's record as the platform does.
async fn write(bed: &Bed, topic: Topic, user: u32, value: Bytes) {
    let record = Record { key: Bytes::copy_from_slice(&uid(user).0), value, traceparent: String::new() };
    bed.log.append(topic, vec![(record, None)]).await.unwrap();
}

/// Runs a consumer until it has applied all that is there, and ends it.
async fn catch_up(bed: &mut Bed) {
    let embedder = Embedder::new(bed.log.clone(), bed.store.clone(), EmbedderConfig::default(), clock());
    bed.stats = embedder.stats();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(embedder.run(stopping));
    for (topic, consumer) in [(Topic::UserEvents, USER_EVENTS_CONSUMER), (Topic::UserUpdates, USER_UPDATES_CONSUMER)] {
        for bounds in bed.log.partitions(topic).await.unwrap() {
            let applied = bed.store.wait_applied(consumer, bounds.end, LONG).await.unwrap();
            assert_eq!(applied, bounds.end, "{consumer} of partition {}", partition_of(bounds.end));
        }
    }
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}

/// Writes to a topic what no producer of the platform would.
struct Stranger {
    producer: FutureProducer,
    topic: String,
}

impl Stranger {
    fn new(prefix: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", Kafka::shared().unwrap().bootstrap()).set("message.max.bytes", "2000000");
        Self { producer: config.create().unwrap(), topic: format!("{prefix}.user-events") }
    }

    /// The partition and the offset within.
    async fn write(&self, partition: u16, key: Option<&[u8]>, value: Option<&[u8]>) -> (u16, u64) {
        let mut record = FutureRecord::to(&self.topic).partition(partition.into());
        (record.key, record.payload) = (key, value);
        let delivered = self.producer.send(record, LONG).await.map_err(|(error, _)| error).unwrap();
        (partition, delivered.offset.unsigned_abs())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_on_kafka_stops_no_partition() {
    let name = "poison_on_kafka_stops_no_partition";
    let Some(mut bed) = engines(name).await else { return };
    let stranger = Stranger::new(name);
    let place = |user: u32| partition_for(&uid(user).0, PARTITIONS);
    let encoded = |event: Event| user_record(event).to_vec();
    let click = |user: u32| decided(user, 7, 7, EventKind::Click);
    let newer = wire::UserRecord { schema: 1, ..wire::UserRecord::decode(user_record(click(1))).unwrap() };
    let nameless = wire::UserRecord {
        record: Some(wire::user_record::Record::Event(Event { event_id: String::new(), ..click(1) })),
        ..wire::UserRecord::decode(user_record(click(1))).unwrap()
    };
    let nameless = nameless.encode_to_vec();
    let huge = vec![0xaa; MAX_RECORD_BYTES + 1_000];
    let poison: Vec<(Option<Vec<u8>>, &str)> = vec![
        (Some(b"\xff\xff\xff".to_vec()), ""),
        (Some(b"{\"type\":\"click\"}".to_vec()), ""),
        (Some(Vec::new()), "uid: must be 17 bytes"),
        (None, "uid: must be 17 bytes"),
        (Some(encoded(Event { kind: 99, ..click(1) })), "kind: unknown event type"),
        (Some(encoded(Event { value: f32::INFINITY, ..click(1) })), "value: must be finite"),
        (Some(nameless), "event_id: "),
        (Some(newer.encode_to_vec()), "schema: is newer than this program knows"),
        (Some(huge), ""),
    ];
    // One in a hundred.
    let mut sent = BTreeMap::new();
    let mut next = poison.iter().cycle();
    for round in 0..18u32 {
        let good = (0..100).map(|n| decided(n % 40, round * 100 + n, n, EventKind::Click)).collect::<Vec<_>>();
        for event in good {
            let user = event.event_id.split_once(':').unwrap().0.parse().unwrap();
            write(&bed, Topic::UserEvents, user, user_record(event)).await;
        }
        let (value, reason) = next.next().unwrap();
        let at = stranger.write(place(1), Some(b"key"), value.as_deref()).await;
        sent.insert(at, (value.clone().unwrap_or_default(), (*reason).to_owned()));
    }
    // A good event where another task writes its visitor.
    let wrong = (place(1) + 1) % PARTITIONS;
    let astray = encoded(click(1));
    let at = stranger.write(wrong, Some(&uid(1).0), Some(&astray)).await;
    sent.insert(at, (astray, format!("uid: belongs to partition {}, not {wrong}", place(1))));

    catch_up(&mut bed).await;
    // A batch whose answer was lost has its effect, and is not counted.
    assert!(bed.stats.events.load(Relaxed) <= 1_800);
    for user in 0..40 {
        let state = bed.state(user).await;
        let expected = 18 * (100 / 40 + usize::from(user < 20));
        assert_eq!(state.window.events().len(), expected.min(50), "visitor {user}");
    }
    let dead = dead(&bed).await;
    assert_eq!(dead.len(), sent.len());
    assert_eq!(bed.stats.dead.load(Relaxed), sent.len() as u64);
    for record in dead {
        let at = (partition_of(record.offset), record.offset - first_offset(partition_of(record.offset)));
        let (value, reason) = sent.remove(&at).expect("each is there once");
        assert!(record.topic == "user-events" && !record.reason.is_empty(), "{}", record.reason);
        assert!(record.reason.starts_with(&reason), "{} instead of {reason}", record.reason);
        assert_eq!(record.value_bytes, value.len() as u64);
        assert!(value.starts_with(&record.value), "{}", record.reason);
        assert_eq!(record.value.len() < value.len(), value.len() > MAX_RECORD_BYTES);
    }
}

async fn dead(bed: &Bed) -> Vec<wire::DeadRecord> {
    let mut dead = Vec::new();
    let end = bed.log.bounds(Topic::UserEventsDead).await.unwrap().end;
    let mut from = 0;
    while from < end {
        let found = bed.log.read(Topic::UserEventsDead, from, 1_000, LONG).await.unwrap();
        from = found.last().unwrap().0 + 1;
        dead.extend(found.into_iter().map(|(_, record)| wire::DeadRecord::decode(record.value).unwrap()));
    }
    dead
}

#[tokio::test(flavor = "multi_thread")]
async fn the_erased_stay_erased_when_kafka_is_read_from_its_start() {
    let name = "the_erased_stay_erased_when_kafka_is_read_from_its_start";
    let Some(mut bed) = engines(name).await else { return };
    for round in 0..20 {
        for user in 0..30 {
            write(&bed, Topic::UserEvents, user, user_record(decided(user, round, user, EventKind::Click))).await;
        }
    }
    let attributes = |user: u32, names: &[&str]| {
        let attribute = |name: &&str| wire::Attribute { name: (*name).into(), value: "45-54".into() };
        let uid = Bytes::copy_from_slice(&uid(user).0);
        let attributes = names.iter().map(attribute).collect();
        Bytes::from(wire::UserAttributes { uid, attributes, ..Default::default() }.encode_to_vec())
    };
    write(&bed, Topic::UserUpdates, 3, attributes(3, &["age"])).await;
    catch_up(&mut bed).await;
    assert_eq!(bed.state(3).await.attributes.get("age"), Some("45-54"));
    // As the origin erases: the attributes first, then the fence.
    write(&bed, Topic::UserUpdates, 3, attributes(3, &[])).await;
    let erased = wire::user_record::Record::Erased(wire::Erased { at: NOW });
    let erased = wire::UserRecord { uid: Bytes::copy_from_slice(&uid(3).0), record: Some(erased), schema: 0 };
    write(&bed, Topic::UserEvents, 3, erased.encode_to_vec().into()).await;
    for user in [3, 4] {
        for item in [100, 101] {
            write(&bed, Topic::UserEvents, user, user_record(decided(user, 900 + item, item, EventKind::Like))).await;
        }
    }
    catch_up(&mut bed).await;
    let items = |state: &UserState| state.window.events().iter().map(|event| event.item.0).collect::<Vec<_>>();
    let expected = bed.state(3).await;
    assert_eq!((items(&expected), expected.attributes.0.is_empty()), (vec![100, 101], true), "only what came after");
    let evidence = bed.store.posteriors().await.unwrap();

    // Nothing is left of the store, fences included, but the log is whole.
    let mut rebuilt = Bed::on(Arc::clone(&bed.log), Arc::new(store(&format!("{name}-rebuilt")).await));
    catch_up(&mut rebuilt).await;
    assert_eq!(rebuilt.stats.erased.load(Relaxed), 1);
    assert_eq!(rebuilt.state(3).await, expected);
    for user in 0..30 {
        assert_eq!(rebuilt.state(user).await, bed.state(user).await, "visitor {user}");
    }
    assert_eq!(rebuilt.store.posteriors().await.unwrap().counts, evidence.counts);

    // And a reader of the whole topic finds no event of theirs that a consumer would take.
    let fence = rebuilt.store.fences(&[uid(3)]).await.unwrap()[0].expect("is fenced");
    let mut follower = Follower::start(Arc::clone(&bed.log), Topic::UserEvents, |bounds| bounds.start).await.unwrap();
    let (mut before, mut after) = (0, 0);
    while before + after < 23 {
        for (offset, record) in follower.read(1_000, LONG).await.unwrap() {
            if record.key[..] == uid(3).0 {
                *(if offset < fence { &mut before } else { &mut after }) += 1;
            }
        }
    }
    assert_eq!((before, after), (21, 2), "what precedes the fence is void");
}
