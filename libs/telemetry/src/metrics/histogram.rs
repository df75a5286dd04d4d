//! A histogram with one exemplar per bucket, which the `prometheus` crate lacks. Hot path.

use crate::Span;
use attune_domain::{RequestId, UnixMillis};
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::{Opts, proto};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One series.
#[derive(Clone)]
pub struct Histogram(Arc<Series>);

struct Series {
    bounds: &'static [f64],
    values: Vec<String>,
    /// One more than bounds: the last is +Inf. Not cumulative.
    buckets: Box<[AtomicU64]>,
    sum_bits: AtomicU64,
    exemplars: Box<[Mutex<Option<Exemplar>>]>,
}

/// A kept trace that fell into a bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exemplar {
    pub(crate) trace_id: RequestId,
    pub(crate) value: f64,
    pub(crate) at: UnixMillis,
}

/// An observation whose trace is not decided yet.
pub(crate) struct Pending {
    histogram: Histogram,
    bucket: usize,
    value: f64,
}

impl Pending {
    pub(crate) fn keep(self, trace_id: RequestId, at: UnixMillis) {
        // Somebody else is writing the same bucket's slot: theirs is as good.
        if let Some(mut slot) = self.histogram.0.exemplars[self.bucket].try_lock() {
            *slot = Some(Exemplar { trace_id, value: self.value, at });
        }
    }
}

impl Histogram {
    fn new(bounds: &'static [f64], values: Vec<String>) -> Self {
        let slots = bounds.len() + 1;
        Self(Arc::new(Series {
            bounds,
            values,
            buckets: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            sum_bits: AtomicU64::new(0f64.to_bits()),
            exemplars: (0..slots).map(|_| Mutex::new(None)).collect(),
        }))
    }

    pub(super) fn detached(bounds: &'static [f64]) -> Self {
        Self::new(bounds, Vec::new())
    }

    /// Ignores what is not a number.
    pub fn observe(&self, value: f64) {
        self.record(value);
    }

    /// Observes, and becomes the bucket's exemplar if the span's trace is kept. Call it before the local root ends.
    pub fn observe_in(&self, span: &Span, value: f64) {
        if let Some(bucket) = self.record(value) {
            span.on_keep(Pending { histogram: self.clone(), bucket, value });
        }
    }

    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    pub fn sum(&self) -> f64 {
        f64::from_bits(self.0.sum_bits.load(Relaxed))
    }

    fn record(&self, value: f64) -> Option<usize> {
        if value.is_nan() {
            return None;
        }
        let series = &*self.0;
        let bucket = series.bounds.partition_point(|bound| *bound < value);
        series.buckets[bucket].fetch_add(1, Relaxed);
        let mut seen = series.sum_bits.load(Relaxed);
        loop {
            let next = (f64::from_bits(seen) + value).to_bits();
            match series.sum_bits.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => return Some(bucket),
                Err(now) => seen = now,
            }
        }
    }
}

/// All series of a name.
pub(crate) struct Family {
    bounds: &'static [f64],
    desc: Desc,
    series: Arc<Mutex<Vec<Histogram>>>,
}

impl Family {
    pub(super) fn new(opts: Opts, labels: &[&str], bounds: &'static [f64]) -> prometheus::Result<Self> {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(opts.name, opts.help, labels, Default::default())?;
        Ok(Self { bounds, desc, series: Arc::default() })
    }

    pub(super) fn collector(&self) -> impl Collector + 'static {
        FamilyCollector { desc: self.desc.clone(), series: self.series.clone() }
    }

    pub(super) fn series(&self, values: Vec<String>) -> Histogram {
        let mut series = self.series.lock();
        if let Some(found) = series.iter().find(|one| one.0.values == values) {
            return found.clone();
        }
        let made = Histogram::new(self.bounds, values);
        series.push(made.clone());
        made
    }

    /// The exemplar of each bucket of the series with these label values.
    pub(crate) fn exemplars(&self, values: &[&str]) -> Vec<Option<Exemplar>> {
        let series = self.series.lock();
        match series.iter().find(|one| one.0.values == values) {
            Some(found) => found.0.exemplars.iter().map(|slot| *slot.lock()).collect(),
            None => Vec::new(),
        }
    }

    /// Label names, in the order in which `exemplars` wants the values.
    pub(crate) fn labels(&self) -> &[String] {
        &self.desc.variable_labels
    }
}

struct FamilyCollector {
    desc: Desc,
    series: Arc<Mutex<Vec<Histogram>>>,
}

impl Collector for FamilyCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let metrics = self.series.lock().iter().map(|one| collect_series(&self.desc, &one.0)).collect();
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(metrics);
        vec![family]
    }
}

fn collect_series(desc: &Desc, series: &Series) -> proto::Metric {
    let mut labels: Vec<proto::LabelPair> = std::iter::zip(&desc.variable_labels, &series.values)
        .map(|(name, value)| {
            let mut label = proto::LabelPair::default();
            label.set_name(name.clone());
            label.set_value(value.clone());
            label
        })
        .collect();
    labels.sort_by(|a, b| a.name().cmp(b.name()));
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(series.bounds.len());
    for (bound, bucket) in series.bounds.iter().zip(&series.buckets) {
        cumulative += bucket.load(Relaxed);
        let mut one = proto::Bucket::default();
        one.set_upper_bound(*bound);
        one.set_cumulative_count(cumulative);
        buckets.push(one);
    }
    cumulative += series.buckets[series.bounds.len()].load(Relaxed);
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(cumulative);
    histogram.set_sample_sum(f64::from_bits(series.sum_bits.load(Relaxed)));
    histogram.set_bucket(buckets);
    let mut metric = proto::Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}
