//! Every metric and span field of this service.

use attune_decision::Chosen;
use attune_telemetry::catalogue::names::{self, SlotKind};
use attune_telemetry::{By, Counter, Histogram, KnownGauge, Span, Telemetry};
use std::time::Duration;

attune_telemetry::labels! {
    pub enum ModelName { Sampler = "thompson" }
}

#[derive(Clone)]
pub struct BanditMetrics {
    slots: By<SlotKind, Counter>,
    sampling: By<ModelName, Histogram>,
    polls_failed: Counter,
    age: KnownGauge,
}

impl BanditMetrics {
    pub fn register(telemetry: &Telemetry) -> Self {
        let metrics = telemetry.metrics();
        Self {
            slots: metrics.counter_by(&names::BANDIT_SLOTS),
            sampling: metrics.histogram_by(&names::MODEL_INFERENCE),
            polls_failed: metrics.counter(&names::BANDIT_POLL_ERRORS, &[]),
            age: metrics.known_gauge(&names::BANDIT_POSTERIOR_AGE, &[]),
        }
    }

    pub fn sampled(&self, chosen: &Chosen, took: Duration) {
        self.sampling.get(ModelName::Sampler).observe(took.as_secs_f64());
        for slot in &chosen.slots {
            let kind = match (slot.uniform, slot.exploration) {
                (true, _) => SlotKind::Uniform,
                (false, true) => SlotKind::Explore,
                (false, false) => SlotKind::Exploit,
            };
            self.slots.get(kind).inc();
        }
    }

    pub fn poll_failed(&self) {
        self.polls_failed.inc();
    }

    pub fn posterior_age(&self, age: Option<Duration>) {
        self.age.set(age.map(|age| age.as_secs_f64()));
    }
}

pub(crate) fn describe(span: &Span, chosen: &Chosen) {
    span.set("algorithm", "thompson");
    span.set("exploration", chosen.slots.iter().filter(|slot| slot.exploration).count());
}
