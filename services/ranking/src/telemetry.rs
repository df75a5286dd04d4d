//! Every metric and span field of this service.

use attune_domain::ModelVersion;
use attune_telemetry::catalogue::names;
use attune_telemetry::{By, Counter, Histogram, Span, Telemetry};
use std::time::Duration;

attune_telemetry::labels! {
    /// What the bundle was asked to do.
    pub enum ModelName { Ranker = "ranker", Attribution = "ranker_attribution" }
}

#[derive(Clone)]
pub struct RankingMetrics {
    inference: By<ModelName, Histogram>,
    scored: Counter,
}

impl RankingMetrics {
    /// `version` is served from now on.
    pub fn register(telemetry: &Telemetry, version: &ModelVersion) -> Self {
        let metrics = telemetry.metrics();
        metrics.gauge(&names::MODEL_DEPLOYED, &[version.0.as_ref()]).set(telemetry.now() as f64 / 1e3);
        Self {
            inference: metrics.histogram_by(&names::MODEL_INFERENCE),
            scored: metrics.counter(&names::RANKING_SCORED, &[]),
        }
    }

    pub fn inferred(&self, model: ModelName, took: Duration, items: usize) {
        self.inference.get(model).observe(took.as_secs_f64());
        self.scored.add(items as f64);
    }
}

pub(crate) fn describe(span: &Span, model: &ModelVersion, batch: usize) {
    span.set("model", model);
    span.set("batch_size", batch);
}
