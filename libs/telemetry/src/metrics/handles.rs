//! Handles of bound series. Hot path.

use crate::Label;
use prometheus::GaugeVec;
use std::marker::PhantomData;
use std::sync::Arc;

/// Only grows.
#[derive(Clone)]
pub struct Counter(Option<prometheus::Counter>);

impl Counter {
    pub(super) fn of(series: prometheus::Counter) -> Self {
        Self(Some(series))
    }

    /// Counts nothing.
    pub(super) fn detached() -> Self {
        Self(None)
    }

    pub fn inc(&self) {
        if let Some(series) = &self.0 {
            series.inc();
        }
    }

    /// Ignores what is negative or not a number.
    pub fn add(&self, amount: f64) {
        if let Some(series) = self.0.as_ref().filter(|_| amount > 0.0) {
            series.inc_by(amount);
        }
    }

    /// Catches up with a count that is kept elsewhere, which only grows too.
    pub fn catch_up(&self, total: f64) {
        self.add(total - self.get());
    }

    pub fn get(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |series| series.get())
    }
}

/// A value that goes up and down.
#[derive(Clone)]
pub struct Gauge(Option<prometheus::Gauge>);

impl Gauge {
    pub(super) fn of(series: prometheus::Gauge) -> Self {
        Self(Some(series))
    }

    /// Always zero.
    pub(super) fn detached() -> Self {
        Self(None)
    }

    pub fn set(&self, value: f64) {
        self.0.iter().for_each(|series| series.set(value));
    }

    pub fn inc(&self) {
        self.0.iter().for_each(|series| series.inc());
    }

    pub fn dec(&self) {
        self.0.iter().for_each(|series| series.dec());
    }

    pub fn get(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |series| series.get())
    }
}

/// A gauge whose series is absent while its value is not known.
#[derive(Clone)]
pub struct KnownGauge {
    family: Option<GaugeVec>,
    values: Arc<[String]>,
}

impl KnownGauge {
    pub(super) fn new(family: GaugeVec, values: Vec<String>) -> Self {
        Self { family: Some(family), values: values.into() }
    }

    /// Always absent.
    pub(super) fn detached() -> Self {
        Self { family: None, values: Arc::default() }
    }

    pub fn set(&self, value: Option<f64>) {
        let Some(family) = &self.family else { return };
        let labels: Vec<&str> = self.values.iter().map(String::as_str).collect();
        match value {
            Some(value) => family.with_label_values(&labels).set(value),
            // Absent already is fine.
            None => drop(family.remove_label_values(&labels)),
        }
    }
}

/// A value with the number of its samples; below the catalogue's number only the samples are shown.
#[derive(Clone)]
pub struct Estimate {
    value: KnownGauge,
    interval: Option<[KnownGauge; 2]>,
    samples: Gauge,
    enough: u64,
}

impl Estimate {
    pub(super) fn new(value: KnownGauge, interval: Option<[KnownGauge; 2]>, samples: Gauge, enough: u64) -> Self {
        Self { value, interval, samples, enough }
    }

    pub fn set(&self, value: f64, samples: u64) {
        self.samples.set(samples as f64);
        self.value.set((samples >= self.enough).then_some(value));
    }

    /// The same with its 95 % interval, for entries that have one.
    pub fn set_within(&self, value: f64, interval: [f64; 2], samples: u64) {
        self.set(value, samples);
        for (gauge, end) in self.interval.iter().flatten().zip(interval) {
            gauge.set((samples >= self.enough).then_some(end));
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
