//! Every metric of its own that the edge can emit.

use attune_domain::{CacheStatus, Level, Tier};
use attune_telemetry::{EdgeRed, Span, Telemetry};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone)]
pub struct EdgeMetrics(Arc<Handles>);

struct Handles {
    red: EdgeRed,
    levels: [IntCounter; 6],
    tiers: [[IntCounter; 2]; 3],
    durations: [Histogram; 3],
    dropped: IntCounter,
    exploration: IntCounter,
    slots: IntCounter,
    events: IntCounterVec,
    cache_bytes: IntGauge,
    users: IntGauge,
}

impl EdgeMetrics {
    pub fn register(telemetry: &Telemetry, pop: &str) -> Result<Self, prometheus::Error> {
        let registry = telemetry.registry();
        let vec = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let gauge = |opts: Opts| {
            let gauge = IntGauge::with_opts(opts)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let levels = vec("personalization_level_total", "Pages by the level they were really served at.", &["level"])?;
        let requests = vec(
            "personalization_requests_total",
            "Pages by the deepest tier that worked on them, and how they ended.",
            &["tier", "status"],
        )?;
        let durations = prometheus::HistogramVec::new(
            HistogramOpts::new("personalization_request_duration_seconds", "Time to answer a page, by tier.")
                .buckets(attune_telemetry::LATENCY_BUCKETS.to_vec()),
            &["tier"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        let slots = vec("edge_slots_total", "Slots of answers, by whether they explore.", &["exploration"])?;
        let dropped = vec("edge_decisions_dropped_total", "Decision records that were lost, by reason.", &["reason"])?;
        let events = vec("edge_events_total", "Events of feedback batches, by what became of them.", &["outcome"])?;
        for outcome in ["accepted", "duplicate", "rejected", "unavailable"] {
            events.with_label_values(&[outcome]);
        }
        let handles = Handles {
            red: EdgeRed::new(telemetry, pop),
            levels: Level::ALL.map(|level| levels.with_label_values(&[&level.code().to_string()])),
            tiers: [Tier::Edge, Tier::Origin, Tier::Llm]
                .map(|tier| ["success", "error"].map(|status| requests.with_label_values(&[tier.as_str(), status]))),
            durations: [Tier::Edge, Tier::Origin, Tier::Llm].map(|tier| durations.with_label_values(&[tier.as_str()])),
            dropped: dropped.with_label_values(&["queue_full"]),
            exploration: slots.with_label_values(&["true"]),
            slots: slots.with_label_values(&["false"]),
            events,
            cache_bytes: gauge(
                Opts::new("edge_cache_size_bytes", "Bytes of the candidate sets held.").const_label("pop", pop),
            )?,
            users: gauge(Opts::new("edge_users", "Visitors whose state is held."))?,
        };
        Ok(Self(Arc::new(handles)))
    }

    /// A page was answered.
    pub(crate) fn page(&self, tier: Tier, level: Level, explored: usize, slots: usize, elapsed: Duration) {
        self.0.levels[level.code() as usize].inc();
        self.0.tiers[tier.code() as usize][0].inc();
        self.0.durations[tier.code() as usize].observe(elapsed.as_secs_f64());
        self.0.exploration.inc_by(explored as u64);
        self.0.slots.inc_by((slots - explored) as u64);
    }

    /// A page was refused.
    pub(crate) fn page_refused(&self) {
        self.0.tiers[Tier::Edge.code() as usize][1].inc();
    }

    /// Any request was answered.
    pub(crate) fn request(&self, cache: Option<CacheStatus>, status: u16, elapsed: Duration, span: &Span) {
        self.0.red.record(cache, status, elapsed, span);
    }

    pub(crate) fn record_dropped(&self) {
        self.0.dropped.inc();
    }

    pub(crate) fn events(&self, outcome: &'static str, count: usize) {
        self.0.events.with_label_values(&[outcome]).inc_by(count as u64);
    }

    pub(crate) fn cache_size(&self, bytes: u64, users: u64) {
        self.0.cache_bytes.set(bytes as i64);
        self.0.users.set(users as i64);
    }
}
