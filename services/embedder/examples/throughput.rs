//! Prints how many events a second the consumer applies on the embedded stores, history first (imported), then live.

#[path = "shared/records.rs"]
mod records;

use attune_embedder::{Embedder, EmbedderConfig};
use attune_storage::{EmbeddedEventLog, EmbeddedFeatureStore, EventLog, FeatureStore, Topic, USER_EVENTS_CONSUMER};
use records::{NOW, record};
use std::sync::Arc;
use std::time::{Duration, Instant};

const EVENTS: u64 = 100_000;
const USERS: u64 = 5_000;

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
            let batch =
                (from..from + 500).map(|n| (record(round * EVENTS + n, EVENTS, USERS, imported), None)).collect();
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
