//! What stands for metrics that do not apply (yet): `<name>_samples` at 0.

use super::{SAMPLES, SAMPLES_HELP};
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names of metrics, each with its family.
///
/// One collector that describes nothing: a registry never forgets the labels of a name it was once given, so that a
/// placeholder registered under the samples' own name could not make room for samples with labels.
#[derive(Clone, Default)]
pub(super) struct Absent(Arc<Mutex<BTreeMap<&'static str, MetricFamily>>>);

impl Absent {
    pub(super) fn insert(&self, metric: &'static str) {
        let Ok(gauge) = prometheus::Gauge::new(format!("{metric}{SAMPLES}"), SAMPLES_HELP) else { return };
        self.0.lock().extend(gauge.collect().pop().map(|family| (metric, family)));
    }

    pub(super) fn remove(&self, metric: &str) {
        self.0.lock().remove(metric);
    }
}

impl Collector for Absent {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.lock().values().cloned().collect()
    }
}
