//! What the clients say of themselves, under the names of the observability contract.

use super::KafkaEventLog;
use attune_telemetry::Telemetry;
use attune_telemetry::catalogue::names;
use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

/// As often as the clients tell.
const EVERY: Duration = Duration::from_secs(1);

/// Shows the clients' health for as long as the log is there.
pub(crate) async fn watch_health(log: Weak<KafkaEventLog>, telemetry: Telemetry) {
    let metrics = telemetry.metrics();
    let queued = metrics.gauge(&names::KAFKA_QUEUED, &[]);
    let (retries, errors) = (metrics.counter(&names::KAFKA_RETRIES, &[]), metrics.counter(&names::KAFKA_ERRORS, &[]));
    let mut round_trips = BTreeMap::new();
    let mut turns = tokio::time::interval(EVERY);
    loop {
        turns.tick().await;
        let Some(log) = log.upgrade() else { return };
        let health = log.health();
        queued.set(health.queued as f64);
        retries.catch_up(health.retries as f64);
        errors.catch_up(health.errors as f64);
        for (broker, seconds) in health.round_trips {
            let gauge = || metrics.gauge(&names::KAFKA_ROUND_TRIP, &[&broker]);
            round_trips.entry(broker.clone()).or_insert_with(gauge).set(seconds);
        }
    }
}
