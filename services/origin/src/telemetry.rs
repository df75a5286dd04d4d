//! Every metric of its own that the origin can emit. RED metrics come from the server layer.

use arc_swap::ArcSwap;
use attune_domain::ModelVersion;
use attune_model::Presence;
use attune_telemetry::catalogue::names;
use attune_telemetry::{By, Counter, Histogram, Metrics, Telemetry};
use std::sync::Arc;

attune_telemetry::labels! {
    /// Why a decision record was lost.
    pub enum Lost { QueueFull = "queue_full", Store = "store", Malformed = "malformed" }
}

attune_telemetry::labels! {
    /// Work beside requests that may fail and is tried again.
    pub enum Step {
        Posteriors = "posteriors",
        PushView = "push_view",
        Retain = "retain",
        ForgetDedup = "forget_dedup",
    }
}

#[derive(Clone)]
pub struct OriginMetrics {
    metrics: Metrics,
    pub(crate) candidates: Histogram,
    fresh: Counter,
    duplicate: Counter,
    stored: Counter,
    dropped: By<Lost, Counter>,
    features: Arc<ArcSwap<Vec<Feature>>>,
    failed: By<Step, Counter>,
    skipped: Counter,
    erased: Counter,
}

/// Counters of one feature, by presence.
struct Feature {
    name: String,
    present: Counter,
    missing: Counter,
    defaulted: Counter,
}

impl OriginMetrics {
    pub fn register(telemetry: &Telemetry) -> Self {
        let metrics = telemetry.metrics();
        Self {
            metrics: metrics.clone(),
            candidates: metrics.histogram(&names::ORIGIN_CANDIDATES, &[]),
            fresh: metrics.counter(&names::ORIGIN_EVENTS_ACCEPTED, &["false"]),
            duplicate: metrics.counter(&names::ORIGIN_EVENTS_ACCEPTED, &["true"]),
            stored: metrics.counter(&names::ORIGIN_DECISIONS_STORED, &[]),
            dropped: metrics.counter_by(&names::ORIGIN_DECISIONS_DROPPED),
            features: Arc::default(),
            failed: metrics.counter_by(&names::ORIGIN_BACKGROUND_FAILURES),
            skipped: metrics.counter(&names::ORIGIN_PUSH_SKIPPED, &[]),
            erased: metrics.counter(&names::ORIGIN_USERS_ERASED, &[]),
        }
    }

    /// This bundle decides from `at` (Unix seconds) on.
    pub(crate) fn deployed(&self, version: &ModelVersion, at: f64) {
        self.metrics.gauge(&names::MODEL_DEPLOYED, &[version.0.as_ref()]).set(at);
    }

    pub(crate) fn event_accepted(&self, duplicate: bool) {
        if duplicate { &self.duplicate } else { &self.fresh }.inc();
    }

    pub(crate) fn decisions_stored(&self, count: u64) {
        self.stored.add(count as f64);
    }

    pub(crate) fn decisions_dropped(&self, why: Lost, count: u64) {
        self.dropped.get(why).add(count as f64);
    }

    /// The features come in the order of the bundle's schema, so they are bound once for a bundle.
    pub(crate) fn features_read(&self, presence: &[(&str, Presence)]) {
        let bound = self.features.load();
        if std::iter::zip(&**bound, presence).filter(|(known, (name, _))| known.name == *name).count() != presence.len()
        {
            self.features.store(Arc::new(presence.iter().map(|(name, _)| self.bind(name)).collect()));
            return self.count(&self.features.load(), presence);
        }
        self.count(&bound, presence);
    }

    fn count(&self, bound: &[Feature], presence: &[(&str, Presence)]) {
        for (feature, (_, presence)) in std::iter::zip(bound, presence) {
            match presence {
                Presence::Present => feature.present.inc(),
                Presence::Missing => feature.missing.inc(),
                Presence::Defaulted => feature.defaulted.inc(),
            }
        }
    }

    fn bind(&self, name: &str) -> Feature {
        let counter =
            |presence: Presence| self.metrics.counter(&names::MODEL_FEATURES_READ, &[name, presence.as_str()]);
        Feature {
            name: name.to_owned(),
            present: counter(Presence::Present),
            missing: counter(Presence::Missing),
            defaulted: counter(Presence::Defaulted),
        }
    }

    pub(crate) fn background_failed(&self, step: Step) {
        self.failed.get(step).inc();
    }

    pub(crate) fn push_skipped(&self) {
        self.skipped.inc();
    }

    pub(crate) fn user_erased(&self) {
        self.erased.inc();
    }
}
