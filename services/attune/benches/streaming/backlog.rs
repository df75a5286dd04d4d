//! The consumer alone on a backlog: in batches, and one event a round trip.

use crate::platform::cpu_seconds;
use crate::say;
use attune_domain::RequestId;
use attune_embedder::{Embedder, EmbedderConfig};
use attune_engines::{Kafka, KafkaOptions as Broker, Redis, RedisOptions as Server};
use attune_proto::{convert, state::v1 as wire};
use attune_runtime::system_clock;
use attune_storage::{
    Clock, EventLog, FeatureStore, KafkaEventLog, KafkaOptions, Record, RedisFeatureStore, RedisOptions, Topic,
    USER_EVENTS_CONSUMER,
};
use bytes::Bytes;
use prost::Message as _;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PARTITIONS: u16 = 4;
const VISITORS: u64 = 20_000;
const ITEMS: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(300);

/// Events per second of wall time, of the consumer's CPU, and of everybody's.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Rates {
    pub(crate) per_second: f64,
    pub(crate) per_cpu_second: f64,
    pub(crate) per_cpu_second_of_all: f64,
}

/// A round each.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Backlog {
    pub(crate) batches: Vec<Rates>,
    pub(crate) one_by_one: Vec<Rates>,
}

pub(crate) fn measure(runtime: &tokio::runtime::Runtime, events: usize, rounds: usize) -> Backlog {
    let kafka = Kafka::start(&Broker::default()).unwrap();
    let redis = Redis::start(&Server { append_only: true, ..Default::default() }).unwrap();
    runtime.block_on(async {
        say("filling a backlog");
        let (long, short) = (log(&kafka, "long", events).await, log(&kafka, "short", events / 10).await);
        let mut backlog = Backlog::default();
        for round in 0..rounds {
            say(&format!("backlog, round {} of {rounds}", round + 1));
            let (batches, one) = (EmbedderConfig::default().batch_records, 1);
            backlog.batches.push(consume(&long, &redis, &kafka, events, batches, round).await);
            backlog.one_by_one.push(consume(&short, &redis, &kafka, events / 10, one, round).await);
        }
        backlog
    })
}

async fn log(kafka: &Kafka, prefix: &str, events: usize) -> Arc<dyn EventLog> {
    let mut options = KafkaOptions::new(kafka.bootstrap(), "backlog");
    (options.topic_prefix, options.partitions) = (format!("{prefix}."), PARTITIONS);
    let log = KafkaEventLog::connect(options, system_clock()).await.unwrap();
    for from in (0..events as u64).step_by(1_000) {
        let batch = (from..(from + 1_000).min(events as u64)).map(|n| (record(n), None)).collect();
        log.append(Topic::UserEvents, batch).await.unwrap();
    }
    Arc::new(log)
}

async fn consume(
    log: &Arc<dyn EventLog>,
    redis: &Redis,
    kafka: &Kafka,
    events: usize,
    batch: usize,
    round: usize,
) -> Rates {
    let clock: Clock = system_clock();
    let config = EmbedderConfig { batch_records: batch, ..EmbedderConfig::default() };
    let options =
        RedisOptions { prefix: format!("backlog-{batch}-{round}"), ..RedisOptions::new(redis.url(), PARTITIONS) };
    let store = RedisFeatureStore::connect(options, config.feature_options(clock.clone())).await.unwrap();
    let store: Arc<dyn FeatureStore> = Arc::new(store);
    let embedder = Embedder::new(Arc::clone(log), Arc::clone(&store), config, clock);
    let pids = [std::process::id(), kafka.process_id().unwrap(), redis.process_id().unwrap()];
    let (begun, cpu) = (Instant::now(), pids.map(cpu_seconds));
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(embedder.run(stopping));
    for bounds in log.partitions(Topic::UserEvents).await.unwrap() {
        let applied = store.wait_applied(USER_EVENTS_CONSUMER, bounds.end, PATIENCE).await.unwrap();
        assert_eq!(applied, bounds.end);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let spent = pids.map(cpu_seconds);
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    let spent: Vec<f64> = spent.iter().zip(cpu).map(|(now, then)| now - then).collect();
    let events = events as f64;
    Rates {
        per_second: events / seconds,
        per_cpu_second: events / spent[0],
        per_cpu_second_of_all: events / spent.iter().sum::<f64>(),
    }
}

/// Half of the events are about a decision, as impressions and clicks are.
fn record(n: u64) -> Record {
    let random = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut uid = [1; 17];
    uid[1..9].copy_from_slice(&((random >> 20) % VISITORS).to_be_bytes());
    let item = ((random >> 36) % ITEMS) as u32;
    let now = system_clock()();
    let mut unique = [0; 10];
    unique[..8].copy_from_slice(&(n / 10).to_be_bytes());
    let decided = n.is_multiple_of(2);
    let event = wire::Event {
        event_id: format!("event-{n}"),
        kind: u32::from(!n.is_multiple_of(4)),
        item_id: format!("item-{item}"),
        item,
        request_id: if decided { Bytes::copy_from_slice(&RequestId::new(now, unique).0) } else { Bytes::new() },
        position: decided.then_some(1),
        occurred_at: now,
        accepted_at: now,
        value: 1.0,
        imported: false,
        in_decision: decided,
        decided: None,
    };
    let key = Bytes::copy_from_slice(&uid);
    let event = Some(wire::user_record::Record::Event(event));
    let value = wire::UserRecord { uid: key.clone(), record: event, schema: convert::SCHEMA }.encode_to_vec();
    Record { key, value: value.into(), traceparent: String::new() }
}
