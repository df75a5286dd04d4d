//! What the store does to Redis, under the names of the observability contract.

use super::{REDIS_COMMANDS, RedisFamily, RedisFeatureStore, RedisObserver};
use attune_telemetry::catalogue::names;
use attune_telemetry::{Counter, Gauge, Histogram, Telemetry};
use std::sync::{Arc, Weak};
use std::time::Duration;

const MEASURE_EVERY: Duration = Duration::from_secs(15);

/// Counts and times commands.
pub struct RedisMetrics {
    commands: Vec<(&'static str, Counter, Histogram)>,
}

impl RedisMetrics {
    pub fn new(telemetry: &Telemetry) -> Arc<Self> {
        let metrics = telemetry.metrics();
        let of = |command: &'static str| {
            let label = command.to_ascii_lowercase();
            let counter = metrics.counter(&names::REDIS_COMMANDS, &[&label]);
            (command, counter, metrics.histogram(&names::REDIS_LATENCY, &[&label]))
        };
        Arc::new(Self { commands: REDIS_COMMANDS.into_iter().map(of).collect() })
    }
}

impl RedisObserver for RedisMetrics {
    fn answered(&self, command: &'static str, took: Duration, _is_ok: bool) {
        if let Some((_, counter, histogram)) = self.commands.iter().find(|(name, ..)| *name == command) {
            counter.inc();
            histogram.observe(took.as_secs_f64());
        }
    }
}

/// Measures the store's memory now and then, for as long as it is there.
pub(crate) async fn watch_memory(store: Weak<RedisFeatureStore>, telemetry: Telemetry) {
    let metrics = telemetry.metrics();
    let used = metrics.gauge(&names::REDIS_MEMORY, &[]);
    let families: Vec<(RedisFamily, Gauge)> = RedisFamily::ALL
        .into_iter()
        .map(|family| (family, metrics.gauge(&names::REDIS_FAMILY_MEMORY, &[family.as_str()])))
        .collect();
    let mut turns = tokio::time::interval(MEASURE_EVERY);
    loop {
        turns.tick().await;
        let Some(store) = store.upgrade() else { return };
        let Ok(memory) = store.memory().await else { continue };
        used.set(memory.used_bytes as f64);
        for (family, gauge) in &families {
            let bytes = memory.families.iter().find(|(of, _)| of == family).map_or(0, |(_, used)| used.bytes);
            gauge.set(bytes as f64);
        }
    }
}
