//! Every metric of its own that the edge can emit. Handles are bound at start; a request touches only those.

use attune_domain::{CacheStatus, Level, Tier};
use attune_telemetry::catalogue::names;
use attune_telemetry::{By, Counter, EdgeRed, Gauge, Histogram, Span, Telemetry};
use std::sync::Arc;
use std::time::Duration;

attune_telemetry::labels! {
    /// What became of an event of a feedback batch.
    pub enum EventOutcome {
        Accepted = "accepted",
        Duplicate = "duplicate",
        Rejected = "rejected",
        Unavailable = "unavailable",
    }
}

#[derive(Clone)]
pub struct EdgeMetrics(Arc<Handles>);

struct Handles {
    red: EdgeRed,
    levels: [Counter; Level::ALL.len()],
    succeeded: By<Tier, Counter>,
    failed: By<Tier, Counter>,
    durations: By<Tier, Histogram>,
    dropped: Counter,
    exploring: Counter,
    exploiting: Counter,
    events: By<EventOutcome, Counter>,
    cache_bytes: Gauge,
    users: Gauge,
}

impl EdgeMetrics {
    pub fn register(telemetry: &Telemetry, pop: &str) -> Self {
        let metrics = telemetry.metrics();
        let pages =
            |status| By::new(|tier: Tier| metrics.counter(&names::PERSONALIZATION_REQUESTS, &[tier.as_str(), status]));
        Self(Arc::new(Handles {
            red: EdgeRed::new(telemetry, pop),
            levels: names::LEVELS.map(|level| metrics.counter(&names::PERSONALIZATION_LEVEL, &[level])),
            succeeded: pages("success"),
            failed: pages("error"),
            durations: metrics.histogram_by(&names::PERSONALIZATION_DURATION),
            dropped: metrics.counter(&names::EDGE_DECISIONS_DROPPED, &["queue_full"]),
            exploring: metrics.counter(&names::EDGE_SLOTS, &["true"]),
            exploiting: metrics.counter(&names::EDGE_SLOTS, &["false"]),
            events: metrics.counter_by(&names::EDGE_EVENTS),
            cache_bytes: metrics.gauge(&names::EDGE_CACHE_SIZE, &[pop]),
            users: metrics.gauge(&names::EDGE_USERS, &[]),
        }))
    }

    /// A page was answered.
    pub(crate) fn page(&self, tier: Tier, level: Level, explored: usize, slots: usize, elapsed: Duration) {
        if let Some(pages) = self.0.levels.get(usize::from(level.code())) {
            pages.inc();
        }
        self.0.succeeded.get(tier).inc();
        self.0.durations.get(tier).observe(elapsed.as_secs_f64());
        self.0.exploring.add(explored as f64);
        self.0.exploiting.add((slots - explored) as f64);
    }

    /// A page was refused.
    pub(crate) fn page_refused(&self) {
        self.0.failed.get(Tier::Edge).inc();
    }

    /// Any request was answered.
    pub(crate) fn request(&self, cache: Option<CacheStatus>, status: u16, elapsed: Duration, span: &Span) {
        self.0.red.record(cache, status, elapsed, span);
    }

    pub(crate) fn record_dropped(&self) {
        self.0.dropped.inc();
    }

    pub(crate) fn events(&self, outcome: EventOutcome, count: usize) {
        self.0.events.get(outcome).add(count as f64);
    }

    pub(crate) fn cache_size(&self, bytes: u64, users: u64) {
        self.0.cache_bytes.set(bytes as f64);
        self.0.users.set(users as f64);
    }
}
