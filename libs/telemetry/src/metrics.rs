//! Counters, gauges and histograms over one `prometheus` registry per service, of what the [catalogue](crate::catalogue)
//! lists.
//!
//! Series are bound once, at start, and begin at zero; a handle then costs a few nanoseconds. A bounded label's values
//! beyond its bound go to `_other`. What the catalogue does not list for this service counts nothing, and shows in
//! `telemetry_metric_conflicts_total`; nor does anything count in a process that records nothing.

mod absent;
mod handles;
mod histogram;

pub use handles::{By, Counter, Estimate, Gauge, KnownGauge};
pub use histogram::Histogram;
pub(crate) use histogram::{Exemplar, Family as HistogramFamily, Pending};

use crate::catalogue::names::{LABEL_OVERFLOW, METRIC_CONFLICTS};
use crate::catalogue::{self, Applies, Entry, Kind, Metric, Service};
use crate::{Label, Record};
use absent::Absent;
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, Opts, Registry};
use std::collections::HashMap;
use std::sync::Arc;

const OTHER: &str = "_other";
const SAMPLES: &str = "_samples";
const SAMPLES_HELP: &str =
    "Observations behind the value, which is absent where they are too few or it does not apply.";

/// Makes a service's metrics. Cloning shares the registry.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    /// None: nothing is listed, so every handle is detached.
    service: Option<Service>,
    registry: Registry,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    families: HashMap<String, Vector>,
    /// Values seen of each bounded label.
    open: HashMap<(&'static str, &'static str), Vec<String>>,
    /// What does not apply, until it does.
    absent: Absent,
}

#[derive(Clone)]
enum Vector {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(Arc<HistogramFamily>),
}

impl Metrics {
    pub(crate) fn new(service: &str, record: Record) -> Self {
        let service = match record {
            Record::All => Service::of(service),
            Record::None => None,
        };
        let inner = Inner { service, registry: Registry::new(), state: Mutex::default() };
        let metrics = Self { inner: Arc::new(inner) };
        // Nothing else is in the registry yet.
        let _ = metrics.inner.registry.register(Box::new(metrics.inner.state.lock().absent.clone()));
        let own = catalogue::all().filter(|metric| metrics.lists(metric) && !metric.per_process);
        own.filter(|metric| metric.applies != Applies::Always).for_each(|metric| metrics.absent(metric));
        metrics
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// Call this and its siblings once per series, at start. The values stand in the order of the entry's labels.
    pub fn counter(&self, entry: &'static Entry<Counter>, values: &[&str]) -> Counter {
        match self.bind(entry, "", values) {
            Some((Vector::Counter(family), values)) => Counter::of(family.with_label_values(&values)),
            _ => Counter::detached(),
        }
    }

    pub fn gauge(&self, entry: &'static Entry<Gauge>, values: &[&str]) -> Gauge {
        match self.bind(entry, "", values) {
            Some((Vector::Gauge(family), values)) => Gauge::of(family.with_label_values(&values)),
            _ => Gauge::detached(),
        }
    }

    /// A gauge that is absent until it is first set.
    pub fn known_gauge(&self, entry: &'static Entry<Gauge>, values: &[&str]) -> KnownGauge {
        self.known(entry, "", values)
    }

    pub fn histogram(&self, entry: &'static Entry<Histogram>, values: &[&str]) -> Histogram {
        match self.bind(entry, "", values) {
            Some((Vector::Histogram(family), values)) => family.series(values),
            _ => Histogram::detached(),
        }
    }

    /// A value that is absent below the entry's number of samples.
    pub fn estimate(&self, entry: &'static Entry<Estimate>, values: &[&str]) -> Estimate {
        let samples = match self.bind(entry, SAMPLES, values) {
            Some((Vector::Gauge(family), values)) => Gauge::of(family.with_label_values(&values)),
            _ => Gauge::detached(),
        };
        let interval = entry.interval.then(|| ["_ci_low", "_ci_high"].map(|end| self.known(entry, end, values)));
        Estimate::new(self.known(entry, "", values), interval, samples, entry.samples)
    }

    pub fn counter_by<L: Label>(&self, entry: &'static Entry<Counter>) -> By<L, Counter> {
        By::new(|value: L| self.counter(entry, &[value.text()]))
    }

    pub fn gauge_by<L: Label>(&self, entry: &'static Entry<Gauge>) -> By<L, Gauge> {
        By::new(|value: L| self.gauge(entry, &[value.text()]))
    }

    pub fn histogram_by<L: Label>(&self, entry: &'static Entry<Histogram>) -> By<L, Histogram> {
        By::new(|value: L| self.histogram(entry, &[value.text()]))
    }

    /// Says that the metric does not apply here: `<name>_samples` is 0 until a handle of it is made.
    pub fn absent(&self, metric: &'static Metric) {
        if !self.lists(metric) {
            return;
        }
        let state = self.inner.state.lock();
        let is_there = |suffix: &str| state.families.contains_key(&format!("{}{suffix}", metric.name));
        if !is_there("") && !is_there(SAMPLES) {
            state.absent.insert(metric.name);
        }
    }

    pub(crate) fn histogram_family(&self, name: &str) -> Option<Arc<HistogramFamily>> {
        match self.inner.state.lock().families.get(name)? {
            Vector::Histogram(family) => Some(family.clone()),
            Vector::Counter(_) | Vector::Gauge(_) => None,
        }
    }

    fn known(&self, metric: &'static Metric, suffix: &str, values: &[&str]) -> KnownGauge {
        match self.bind(metric, suffix, values) {
            Some((Vector::Gauge(family), values)) => KnownGauge::new(family, values),
            _ => KnownGauge::detached(),
        }
    }

    fn lists(&self, metric: &Metric) -> bool {
        self.inner.service.is_some_and(|service| metric.services.contains(&service))
    }

    /// Finds or registers the family, and the series' values within their bounds. None for what the catalogue does not
    /// list.
    fn bind(&self, metric: &'static Metric, suffix: &str, values: &[&str]) -> Option<(Vector, Vec<String>)> {
        if !self.lists(metric) || !fits(metric, values) {
            // The conflicts' own name is listed for every service; a service that is not is beyond counting.
            if self.lists(&METRIC_CONFLICTS) && metric.name != METRIC_CONFLICTS.name {
                self.counter(&METRIC_CONFLICTS, &[metric.name]).inc();
            }
            return None;
        }
        let mut state = self.inner.state.lock();
        let (bounded, overflow) = state.within_bounds(metric, values);
        let name = format!("{}{suffix}", metric.name);
        let vector = match state.families.get(&name) {
            Some(found) => found.clone(),
            None => {
                state.absent.remove(metric.name);
                let help = if suffix == SAMPLES { SAMPLES_HELP } else { metric.help };
                let vector = Vector::new(metric, Opts::new(&name, help)).ok()?;
                self.inner.registry.register(vector.collector()).ok()?;
                state.families.insert(name, vector.clone());
                vector
            }
        };
        drop(state);
        self.count_overflow(metric, &overflow);
        Some((vector, bounded))
    }

    /// The overflow of every bounded label is there from the start, so that its first is an increase.
    fn count_overflow(&self, metric: &'static Metric, overflow: &[&'static str]) {
        if [LABEL_OVERFLOW.name, METRIC_CONFLICTS.name].contains(&metric.name) {
            return;
        }
        for label in metric.labels.iter().filter(|label| label.closed().is_none()) {
            let counter = self.counter(&LABEL_OVERFLOW, &[metric.name, label.name]);
            if overflow.contains(&label.name) {
                counter.inc();
            }
        }
    }
}

/// Whether the values are as many as the labels, and in their closed lists.
fn fits(metric: &Metric, values: &[&str]) -> bool {
    let allowed =
        |(label, value): (&catalogue::LabelKey, &&str)| label.closed().is_none_or(|values| values.contains(value));
    values.len() == metric.labels.len() && metric.labels.iter().zip(values).all(allowed)
}

impl State {
    /// The values, those of a full open set replaced; and the labels where that happened.
    fn within_bounds(&mut self, metric: &'static Metric, values: &[&str]) -> (Vec<String>, Vec<&'static str>) {
        let mut overflow = Vec::new();
        let bounded = std::iter::zip(metric.labels, values).map(|(label, value)| {
            let catalogue::Values::First(most) = label.values else { return (*value).to_owned() };
            let seen = self.open.entry((metric.name, label.name)).or_default();
            if !seen.iter().any(|known| known == value) {
                if seen.len() >= most {
                    overflow.push(label.name);
                    return OTHER.to_owned();
                }
                seen.push((*value).to_owned());
            }
            (*value).to_owned()
        });
        (bounded.collect(), overflow)
    }
}

impl Vector {
    fn new(metric: &Metric, opts: Opts) -> prometheus::Result<Self> {
        let labels: Vec<&str> = metric.labels.iter().map(|label| label.name).collect();
        Ok(match metric.kind {
            Kind::Counter => Self::Counter(CounterVec::new(opts, &labels)?),
            Kind::Gauge => Self::Gauge(GaugeVec::new(opts, &labels)?),
            Kind::Histogram(bounds) => Self::Histogram(Arc::new(HistogramFamily::new(opts, &labels, bounds)?)),
        })
    }

    fn collector(&self) -> Box<dyn Collector> {
        match self {
            Self::Counter(family) => Box::new(family.clone()),
            Self::Gauge(family) => Box::new(family.clone()),
            Self::Histogram(family) => Box::new(family.collector()),
        }
    }
}
