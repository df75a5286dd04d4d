//! Prints how many events a second the consumer applies on the embedded stores, history first (imported), then live.

use attune_domain::{RequestId, Uid};
use attune_embedder::{Embedder, EmbedderConfig};
use attune_proto::state::v1 as wire;
use attune_storage::{
    EmbeddedEventLog, EmbeddedFeatureStore, EventLog, FeatureStore, Record, Topic, USER_EVENTS_CONSUMER,
};
use bytes::Bytes;
use prost::Message as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NOW: i64 = 1_769_682_600_000;
const EVENTS: u64 = 100_000;
const USERS: u64 = 5_000;
const ITEMS: u64 = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let config = EmbedderConfig::default();
    let clock: attune_storage::Clock = Arc::new(|| NOW);
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedEventLog::open(&dir.path().join("log"))?);
    let options = config.feature_options(clock.clone());
    let store: Arc<dyn FeatureStore> = Arc::new(EmbeddedFeatureStore::open(&dir.path().join("features"), options)?);
    for (round, (name, imported)) in (0u64..).zip([("imported", true), ("live", false)]) {
        for from in (0..EVENTS).step_by(500) {
            let batch = (from..from + 500).map(|n| (record(round * EVENTS + n, imported), None)).collect();
            log.append(Topic::UserEvents, batch).await?;
        }
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let start = Instant::now();
        let embedder = Embedder::new(log.clone(), store.clone(), config.clone(), clock.clone());
        let running = tokio::spawn(embedder.run(stopping));
        let end = log.bounds(Topic::UserEvents).await?.end;
        let applied = store.wait_applied(USER_EVENTS_CONSUMER, end, Duration::from_secs(300)).await?;
        let seconds = start.elapsed().as_secs_f64();
        stop.send_replace(true);
        running.await??;
        println!("{name}: applied={} events_per_s={:.0}", applied - round * EVENTS, EVENTS as f64 / seconds);
    }
    Ok(())
}

fn mix(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 20
}

fn record(n: u64, imported: bool) -> Record {
    let mut uid = [1; 17];
    uid[1..9].copy_from_slice(&(mix(n) % USERS).to_be_bytes());
    let uid = Uid(uid);
    let item = (mix(n ^ 0x5555) % ITEMS) as u32;
    let mut random = [0; 10];
    random[..8].copy_from_slice(&(n / 10).to_be_bytes());
    let event = wire::Event {
        event_id: format!("event-{n}"),
        kind: if n.is_multiple_of(10) { 1 } else { u32::from(imported) },
        item_id: format!("item-{item}"),
        item,
        request_id: Bytes::copy_from_slice(&RequestId::new(NOW, random).0),
        position: Some(1),
        occurred_at: NOW - EVENTS as i64 + n as i64,
        accepted_at: NOW,
        value: 1.0,
        imported,
        in_decision: !imported,
        decided: None,
    };
    let event = wire::user_record::Record::Event(event);
    let value =
        wire::UserRecord { uid: Bytes::copy_from_slice(&uid.0), record: Some(event), schema: 0 }.encode_to_vec();
    Record { key: Bytes::copy_from_slice(&uid.0), value: value.into(), traceparent: String::new() }
}
