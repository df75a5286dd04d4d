//! Every metric of its own that the origin can emit. RED metrics come from the server layer.

use crate::OriginError;
use attune_model::Presence;
use attune_telemetry::Telemetry;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};

#[derive(Clone)]
pub struct OriginMetrics {
    pub(crate) candidates: Histogram,
    accepted: IntCounterVec,
    stored: IntCounter,
    dropped: IntCounterVec,
    features: IntCounterVec,
    failed: IntCounterVec,
    skipped: IntCounter,
    erased: IntCounter,
}

impl OriginMetrics {
    pub fn register(telemetry: &Telemetry) -> Result<Self, OriginError> {
        Self::on(telemetry.registry()).map_err(|e| OriginError::Metrics(e.to_string()))
    }

    fn on(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let vec = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let one = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let buckets = vec![10.0, 25.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 750.0, 1000.0];
        let opts = HistogramOpts::new("origin_candidates", "Candidates that reached the ranking model, per page.");
        let candidates = Histogram::with_opts(opts.buckets(buckets))?;
        registry.register(Box::new(candidates.clone()))?;
        let metrics = Self {
            candidates,
            accepted: vec("origin_events_accepted_total", "Events made durable, by whether they stood in the log before.", &["duplicate"])?,
            stored: one("origin_decisions_stored_total", "Decision records written to the decision log.")?,
            dropped: vec("origin_decisions_dropped_total", "Decision records that were lost, by reason.", &["reason"])?,
            features: vec("model_features_read_total", "Features read for a decision, by whether they were there.", &["feature_name", "presence"])?,
            failed: vec("origin_background_failures_total", "Background steps that failed and will be tried again.", &["step"])?,
            skipped: one("origin_push_skipped_total", "Rebuilds of an own list left out because too many waited.")?,
            erased: one("origin_users_erased_total", "Visitors erased.")?,
        };
        for duplicate in ["true", "false"] {
            metrics.accepted.with_label_values(&[duplicate]);
        }
        for reason in ["queue_full", "store", "malformed"] {
            metrics.dropped.with_label_values(&[reason]);
        }
        Ok(metrics)
    }

    pub(crate) fn event_accepted(&self, duplicate: bool) {
        self.accepted.with_label_values(&[if duplicate { "true" } else { "false" }]).inc();
    }

    pub(crate) fn decisions_stored(&self, count: u64) {
        self.stored.inc_by(count);
    }

    pub(crate) fn decisions_dropped(&self, reason: &'static str, count: u64) {
        self.dropped.with_label_values(&[reason]).inc_by(count);
    }

    pub(crate) fn features_read(&self, presence: &[(&str, Presence)]) {
        for (feature, presence) in presence {
            self.features.with_label_values(&[feature, presence.as_str()]).inc();
        }
    }

    pub(crate) fn background_failed(&self, step: &'static str) {
        self.failed.with_label_values(&[step]).inc();
    }

    pub(crate) fn push_skipped(&self) {
        self.skipped.inc();
    }

    pub(crate) fn user_erased(&self) {
        self.erased.inc();
    }
}
