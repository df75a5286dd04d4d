//! The consumer's counters, under the names of the observability contract.

use crate::EmbedderStats;
use attune_telemetry::Telemetry;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

const EVERY: Duration = Duration::from_millis(500);

/// Copies the consumer's counts to the registry until told to stop.
pub async fn export(stats: Arc<EmbedderStats>, telemetry: Telemetry, mut stop: watch::Receiver<bool>) {
    let Ok((pairs, lag)) = register(&telemetry) else { return };
    loop {
        for (counter, count) in &pairs {
            let total = count(&stats).load(Ordering::Relaxed);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        lag.set(stats.lag.load(Ordering::Relaxed) as i64);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

type Count = fn(&EmbedderStats) -> &AtomicU64;

fn register(telemetry: &Telemetry) -> Result<(Vec<(IntCounter, Count)>, IntGauge), prometheus::Error> {
    let registry = telemetry.registry();
    let vec = |name: &str, help: &str, label: &str| {
        let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
        registry.register(Box::new(vec.clone()))?;
        Ok::<_, prometheus::Error>(vec)
    };
    let events = vec("streaming_events_processed_total", "Events whose effect is stored, by processor.", "processor")?;
    let records = vec("embedder_records_total", "Records by what became of them.", "outcome")?;
    let retries = IntCounter::new("embedder_retries_total", "Steps repeated because a store failed.")?;
    registry.register(Box::new(retries.clone()))?;
    let lag = IntGauge::new("embedder_lag_records", "Records of user-events that are not yet applied.")?;
    registry.register(Box::new(lag.clone()))?;
    let pairs: Vec<(IntCounter, Count)> = vec![
        (events.with_label_values(&["embed"]), |s| &s.events),
        (events.with_label_values(&["context"]), |s| &s.attributes),
        (events.with_label_values(&["bandit"]), |s| &s.impressions),
        (records.with_label_values(&["void"]), |s| &s.void),
        (records.with_label_values(&["erased"]), |s| &s.erased),
        (records.with_label_values(&["dead"]), |s| &s.dead),
        (records.with_label_values(&["reward"]), |s| &s.rewards),
        (retries, |s| &s.retries),
    ];
    Ok((pairs, lag))
}
