//! Counters, gauges and histograms over one `prometheus` registry per service.
//!
//! Series are bound once, at start, and begin at zero; a handle then costs a few nanoseconds. The number of series of a
//! name is bounded: what comes after goes to the series whose labels are all `_other`.

mod histogram;

pub use histogram::Histogram;
pub(crate) use histogram::{Exemplar, Family as HistogramFamily, Pending};

use crate::{Label, LabelPair};
use parking_lot::Mutex;
use prometheus::{CounterVec, GaugeVec, Opts, Registry};
use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::Arc;

/// Bounds of every latency histogram, in seconds: they contain each threshold that is alerted on.
pub const LATENCY_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0,
];
/// The same for language models.
pub const LLM_LATENCY_BUCKETS: &[f64] = &[0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 81.92];

const MAX_SERIES: usize = 512;
const OTHER: &str = "_other";

/// Only grows.
#[derive(Clone)]
pub struct Counter(prometheus::Counter);

impl Counter {
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Ignores what is negative or not a number.
    pub fn add(&self, amount: f64) {
        if amount > 0.0 {
            self.0.inc_by(amount);
        }
    }

    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// A value that goes up and down.
#[derive(Clone)]
pub struct Gauge(prometheus::Gauge);

impl Gauge {
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    pub fn inc(&self) {
        self.0.inc();
    }

    pub fn dec(&self) {
        self.0.dec();
    }

    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// A gauge whose series is absent while its value is not known.
#[derive(Clone)]
pub struct KnownGauge {
    family: GaugeVec,
    values: Arc<[String]>,
}

impl KnownGauge {
    pub fn set(&self, value: Option<f64>) {
        let labels: Vec<&str> = self.values.iter().map(String::as_str).collect();
        match value {
            Some(value) => self.family.with_label_values(&labels).set(value),
            // Absent already is fine.
            None => drop(self.family.remove_label_values(&labels)),
        }
    }
}

/// One handle for each value of a closed list.
#[derive(Clone)]
pub struct By<L, M> {
    handles: Arc<[M]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, M> By<L, M> {
    pub fn new(make: impl FnMut(L) -> M) -> Self {
        Self { handles: L::all().iter().copied().map(make).collect(), label: PhantomData }
    }

    pub fn get(&self, label: L) -> &M {
        &self.handles[label.index()]
    }
}

/// Makes a service's metrics. Cloning shares the registry.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    families: Mutex<HashMap<&'static str, Family>>,
    conflicts: CounterVec,
    overflow: CounterVec,
}

struct Family {
    vector: Vector,
    labels: Vec<&'static str>,
    series: HashSet<Vec<String>>,
}

#[derive(Clone)]
enum Vector {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(Arc<HistogramFamily>),
}

impl Metrics {
    #[expect(clippy::expect_used, reason = "the registry is new and the names are constants that a test registers")]
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let own = |name: &str, help: &str, label: &str| {
            let family = CounterVec::new(Opts::new(name, help), &[label]).expect("a valid constant name");
            registry.register(Box::new(family.clone())).expect("a new registry");
            family
        };
        let conflicts = own(
            "telemetry_metric_conflicts_total",
            "Metrics asked for under a name already used with another type or other labels; not exposed.",
            "metric",
        );
        let overflow =
            own("telemetry_label_overflow_total", "Series beyond the bound, counted under _other.", "metric");
        Self { inner: Arc::new(Inner { registry, families: Mutex::default(), conflicts, overflow }) }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// Name ends in `_total`. Call it once per series, at start; the series begins at zero.
    pub fn counter(&self, name: &'static str, help: &str, labels: &[LabelPair<'_>]) -> Counter {
        let make = |opts, names: &[&str]| CounterVec::new(opts, names).map(Vector::Counter);
        let (vector, values) = self.bind(name, help, labels, |v| matches!(v, Vector::Counter(_)), make);
        match vector {
            Some(Vector::Counter(family)) => Counter(family.with_label_values(&values)),
            _ => Counter(detached_counter()),
        }
    }

    pub fn gauge(&self, name: &'static str, help: &str, labels: &[LabelPair<'_>]) -> Gauge {
        match self.gauge_family(name, help, labels) {
            (Some(family), values) => Gauge(family.with_label_values(&values)),
            (None, _) => Gauge(detached_gauge()),
        }
    }

    /// A gauge that is absent until it is first set.
    pub fn known_gauge(&self, name: &'static str, help: &str, labels: &[LabelPair<'_>]) -> KnownGauge {
        match self.gauge_family(name, help, labels) {
            (Some(family), values) => KnownGauge { family, values: values.into() },
            (None, _) => KnownGauge { family: detached_gauge_family(), values: Arc::new([]) },
        }
    }

    pub fn histogram(
        &self,
        name: &'static str,
        help: &str,
        bounds: &'static [f64],
        labels: &[LabelPair<'_>],
    ) -> Histogram {
        let make = |opts: Opts, names: &[&str]| {
            HistogramFamily::new(opts, names, bounds).map(|family| Vector::Histogram(Arc::new(family)))
        };
        let (vector, values) = self.bind(name, help, labels, |v| matches!(v, Vector::Histogram(_)), make);
        match vector {
            Some(Vector::Histogram(family)) => family.series(values),
            _ => Histogram::detached(bounds),
        }
    }

    pub fn counter_by<L: Label>(&self, name: &'static str, help: &str, label: &'static str) -> By<L, Counter> {
        By::new(|value: L| self.counter(name, help, &[(label, value.text())]))
    }

    pub fn gauge_by<L: Label>(&self, name: &'static str, help: &str, label: &'static str) -> By<L, Gauge> {
        By::new(|value: L| self.gauge(name, help, &[(label, value.text())]))
    }

    pub fn latency_by<L: Label>(&self, name: &'static str, help: &str, label: &'static str) -> By<L, Histogram> {
        By::new(|value: L| self.histogram(name, help, LATENCY_BUCKETS, &[(label, value.text())]))
    }

    pub(crate) fn histogram_family(&self, name: &str) -> Option<Arc<HistogramFamily>> {
        match &self.inner.families.lock().get(name)?.vector {
            Vector::Histogram(family) => Some(family.clone()),
            _ => None,
        }
    }

    fn gauge_family(
        &self,
        name: &'static str,
        help: &str,
        labels: &[LabelPair<'_>],
    ) -> (Option<GaugeVec>, Vec<String>) {
        let make = |opts, names: &[&str]| GaugeVec::new(opts, names).map(Vector::Gauge);
        match self.bind(name, help, labels, |v| matches!(v, Vector::Gauge(_)), make) {
            (Some(Vector::Gauge(family)), values) => (Some(family), values),
            (_, values) => (None, values),
        }
    }

    /// Finds or registers the family, and bounds its series. None when the name is taken by something else: the metric
    /// still counts, for nobody, and the conflict shows.
    fn bind(
        &self,
        name: &'static str,
        help: &str,
        labels: &[LabelPair<'_>],
        fits: impl Fn(&Vector) -> bool,
        make: impl Fn(Opts, &[&str]) -> prometheus::Result<Vector>,
    ) -> (Option<Vector>, Vec<String>) {
        let names: Vec<&'static str> = labels.iter().map(|(name, _)| *name).collect();
        let mut values: Vec<String> = labels.iter().map(|(_, value)| (*value).to_owned()).collect();
        let mut families = self.inner.families.lock();
        if !families.contains_key(name) {
            let made = make(Opts::new(name, help), &names).and_then(|vector| {
                let collector: Box<dyn prometheus::core::Collector> = match &vector {
                    Vector::Counter(family) => Box::new(family.clone()),
                    Vector::Gauge(family) => Box::new(family.clone()),
                    Vector::Histogram(family) => Box::new(family.collector()),
                };
                self.inner.registry.register(collector).map(|()| vector)
            });
            if let Ok(vector) = made {
                families.insert(name, Family { vector, labels: names.clone(), series: HashSet::new() });
            }
        }
        match families.get_mut(name) {
            Some(family) if fits(&family.vector) && family.labels == names => {
                if family.series.len() >= MAX_SERIES && !family.series.contains(&values) {
                    self.inner.overflow.with_label_values(&[name]).inc();
                    values.iter_mut().for_each(|value| *value = OTHER.into());
                } else {
                    family.series.insert(values.clone());
                }
                (Some(family.vector.clone()), values)
            }
            _ => {
                self.inner.conflicts.with_label_values(&[name]).inc();
                (None, values)
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "a constant valid name")]
fn detached_counter() -> prometheus::Counter {
    prometheus::Counter::new("detached", "not exposed").expect("a valid constant name")
}

#[expect(clippy::expect_used, reason = "a constant valid name")]
fn detached_gauge() -> prometheus::Gauge {
    prometheus::Gauge::new("detached", "not exposed").expect("a valid constant name")
}

#[expect(clippy::expect_used, reason = "a constant valid name")]
fn detached_gauge_family() -> GaugeVec {
    GaugeVec::new(Opts::new("detached", "not exposed"), &[]).expect("a valid constant name")
}
