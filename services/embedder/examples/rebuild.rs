//! Prints how large a checkpoint of a real Redis is, how long it takes under load and how long a Redis that lost its data
//! takes to come back from it, beside replaying the log from its start.
//!
//! `ATTUNE_EVENTS` and `ATTUNE_USERS` choose the size.

#[path = "shared/records.rs"]
mod records;

use attune_config::HumanDuration;
use attune_embedder::{Embedder, EmbedderConfig, EmbedderStats};
use attune_engines::{Redis, RedisOptions as Server};
use attune_storage::{
    Clock, EmbeddedEventLog, EventLog, FeatureStore, RedisFeatureStore, RedisOptions, Topic, USER_EVENTS_CONSUMER,
    checkpoint_path,
};
use records::{NOW, record};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Events after the checkpoint.
const TAIL: u64 = 5_000;
const LONG: Duration = Duration::from_secs(600);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[expect(clippy::disallowed_methods, reason = "an example has no config")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::main]
async fn main() -> Result<()> {
    let (events, users) = (number("ATTUNE_EVENTS", 300_000), number("ATTUNE_USERS", 60_000));
    let dir = tempfile::tempdir()?;
    let server = Redis::start(&Server { append_only: true, ..Server::default() })?;
    let log: Arc<dyn EventLog> = Arc::new(EmbeddedEventLog::open(&dir.path().join("log"))?);
    write(&*log, 0..events, events, users).await?;
    let mut config = EmbedderConfig::default();
    let clock: Clock = Arc::new(|| NOW);
    let options = RedisOptions { write_timeout: Duration::from_secs(10), ..RedisOptions::new(server.url(), 1) };
    let store = RedisFeatureStore::connect(options, config.feature_options(clock.clone())).await?;
    let store: Arc<dyn FeatureStore> = Arc::new(store);

    let (replayed, _) = run(&log, &store, config.clone(), &clock).await?;
    println!("{events} events of {users} users");
    println!("replay from the start: {replayed:.2} s, {:.0} events/s", events as f64 / replayed);
    config.own.checkpoints = dir.path().join("checkpoints");
    config.checkpoint_every = HumanDuration(LONG);
    let (took, bytes) = checkpoint(&log, &store, config.clone(), &clock).await?;
    println!("checkpoint: {bytes} bytes, {} a user, in {took:.2} s", bytes / users);
    write(&*log, events..events + TAIL, events, users).await?;
    server.ask(&["FLUSHALL"])?;
    let (restored, stats) = run(&log, &store, config, &clock).await?;
    let records = stats.records_restored.load(Relaxed);
    println!(
        "restored and tail of {TAIL}: {restored:.2} s, {:.1} times as fast as the replay; {records} records from the \
         checkpoint, {:.0} users/s",
        replayed / restored,
        users as f64 / restored
    );
    Ok(())
}

async fn write(log: &dyn EventLog, of: std::ops::Range<u64>, events: u64, users: u64) -> Result<()> {
    for from in of.clone().step_by(500) {
        let batch = (from..(from + 500).min(of.end)).map(|n| (record(n, events, users, false), None)).collect();
        log.append(Topic::UserEvents, batch).await?;
    }
    Ok(())
}

/// Seconds until all is applied.
async fn run(
    log: &Arc<dyn EventLog>,
    store: &Arc<dyn FeatureStore>,
    config: EmbedderConfig,
    clock: &Clock,
) -> Result<(f64, Arc<EmbedderStats>)> {
    let embedder = Embedder::new(Arc::clone(log), Arc::clone(store), config, clock.clone());
    let stats = embedder.stats();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let began = Instant::now();
    let running = tokio::spawn(embedder.run(stopping));
    let end = log.bounds(Topic::UserEvents).await?.end;
    store.wait_applied(USER_EVENTS_CONSUMER, end, LONG).await?;
    let seconds = began.elapsed().as_secs_f64();
    stop.send_replace(true);
    running.await??;
    Ok((seconds, stats))
}

/// Seconds and bytes of the first one.
async fn checkpoint(
    log: &Arc<dyn EventLog>,
    store: &Arc<dyn FeatureStore>,
    config: EmbedderConfig,
    clock: &Clock,
) -> Result<(f64, u64)> {
    let path = checkpoint_path(&config.own.checkpoints, 0);
    let embedder = Embedder::new(Arc::clone(log), Arc::clone(store), config, clock.clone());
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let began = Instant::now();
    let running = tokio::spawn(embedder.run(stopping));
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    stop.send_replace(true);
    running.await??;
    Ok((seconds, std::fs::metadata(&path)?.len()))
}
