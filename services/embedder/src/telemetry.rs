//! The consumer's counters, under the names of the observability contract.

use crate::EmbedderStats;
use attune_storage::{Topic, USER_EVENTS_CONSUMER};
use attune_telemetry::catalogue::names::{
    EMBEDDER_CHECKPOINT_BYTES, EMBEDDER_CHECKPOINT_FAILURES, EMBEDDER_LAG, EMBEDDER_RECORDS, EMBEDDER_RESTORED,
    EMBEDDER_RESTORES, EMBEDDER_RETRIES, KAFKA_CONSUMER_LAG, STREAMING_CHECKPOINT, STREAMING_EVENTS, STREAMING_LAG,
};
use attune_telemetry::{Counter, Telemetry};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_millis(500);

/// Copies the consumer's counts to the registry until told to stop; with `on_kafka` its lag in each partition, too.
pub async fn export(stats: Arc<EmbedderStats>, on_kafka: bool, telemetry: Telemetry, mut stop: watch::Receiver<bool>) {
    let metrics = telemetry.metrics();
    let counters = counters(&telemetry);
    let records = metrics.gauge(&EMBEDDER_LAG, &[]);
    let bytes = metrics.gauge(&EMBEDDER_CHECKPOINT_BYTES, &[]);
    let seconds = metrics.gauge(&STREAMING_LAG, &[USER_EVENTS_CONSUMER]);
    let mut lags = BTreeMap::new();
    loop {
        for (counter, count) in &counters {
            counter.catch_up(count(&stats).load(Ordering::Relaxed) as f64);
        }
        records.set(stats.lag() as f64);
        if on_kafka {
            let behind: BTreeMap<_, _> = stats.behind().into_iter().collect();
            for &partition in behind.keys() {
                let gauge =
                    || metrics.gauge(&KAFKA_CONSUMER_LAG, &[Topic::UserEvents.as_str(), &partition.to_string()]);
                lags.entry(partition).or_insert_with(gauge);
            }
            for (partition, lag) in &lags {
                // One that is another member's now has its lag there.
                lag.set(behind.get(partition).copied().unwrap_or(0) as f64);
            }
        }
        bytes.set(stats.checkpoint_bytes() as f64);
        for took in stats.take_checkpoint_times() {
            metrics.histogram(&STREAMING_CHECKPOINT, &[]).observe(took.as_secs_f64());
        }
        let now = u64::try_from(telemetry.now()).unwrap_or(0);
        seconds.set(stats.waiting_since().map_or(0.0, |since| now.saturating_sub(since) as f64 / 1e3));
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

type Count = fn(&EmbedderStats) -> &AtomicU64;

fn counters(telemetry: &Telemetry) -> Vec<(Counter, Count)> {
    let metrics = telemetry.metrics();
    let events = |processor| metrics.counter(&STREAMING_EVENTS, &[processor]);
    let records = |outcome| metrics.counter(&EMBEDDER_RECORDS, &[outcome]);
    vec![
        (events("embed"), |s| &s.events),
        (events("context"), |s| &s.attributes),
        (events("bandit"), |s| &s.impressions),
        (records("void"), |s| &s.void),
        (records("erased"), |s| &s.erased),
        (records("dead"), |s| &s.dead),
        (records("reward"), |s| &s.rewards),
        (metrics.counter(&EMBEDDER_RETRIES, &[]), |s| &s.retries),
        (metrics.counter(&EMBEDDER_RESTORES, &["checkpoint"]), |s| &s.restored),
        (metrics.counter(&EMBEDDER_RESTORES, &["log"]), |s| &s.replayed),
        (metrics.counter(&EMBEDDER_RESTORED, &[]), |s| &s.records_restored),
        (metrics.counter(&EMBEDDER_CHECKPOINT_FAILURES, &[]), |s| &s.checkpoints_failed),
    ]
}
