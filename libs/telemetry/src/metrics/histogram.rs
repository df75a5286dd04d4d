//! A histogram over shards, with one exemplar per bucket; the `prometheus` crate has neither. Hot path.
//!
//! Series are bound at start, their number is bounded by the catalogue, and they live as long as the process: a handle is
//! a plain reference, and remembering an observation for a trace's verdict touches no shared counter.

use crate::Span;
use attune_domain::{RequestId, UnixMillis};
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::{Opts, proto};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// One series, or none.
#[derive(Clone, Copy)]
pub struct Histogram(Option<&'static Series>);

struct Series {
    bounds: &'static [f64],
    values: Vec<String>,
    /// For each shard `lines` lines: the sum's bits, then one count per bucket, the last +Inf; not cumulative.
    cells: Box<[Line]>,
    lines: usize,
    exemplars: Box<[Mutex<Option<Exemplar>>]>,
}

/// Two cache lines, because processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Line([AtomicU64; Line::CELLS]);

impl Line {
    const CELLS: usize = 16;
}

/// A kept trace that fell into a bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exemplar {
    pub(crate) trace_id: RequestId,
    pub(crate) span_id: [u8; 8],
    pub(crate) value: f64,
    pub(crate) at: UnixMillis,
}

/// An observation whose trace is not decided yet.
pub(crate) struct Pending {
    series: &'static Series,
    bucket: usize,
    value: f64,
    span_id: [u8; 8],
}

impl Pending {
    pub(crate) fn keep(self, trace_id: RequestId, at: UnixMillis) {
        // Somebody else is writing the same bucket's slot: theirs is as good.
        if let Some(mut slot) = self.series.exemplars[self.bucket].try_lock() {
            *slot = Some(Exemplar { trace_id, span_id: self.span_id, value: self.value, at });
        }
    }
}

impl Histogram {
    /// Observes nothing.
    pub(super) fn detached() -> Self {
        Self(None)
    }

    /// Ignores what is not a number.
    pub fn observe(&self, value: f64) {
        if let Some(series) = self.0 {
            series.record(value);
        }
    }

    /// Observes, and becomes the bucket's exemplar if the span's trace is kept. Call it before the local root ends.
    pub fn observe_in(&self, span: &Span, value: f64) {
        if let Some(series) = self.0
            && let Some(bucket) = series.record(value)
            && let Some((_, span_id)) = span.place()
        {
            span.on_keep(Pending { series, bucket, value, span_id });
        }
    }

    pub fn count(&self) -> u64 {
        self.0.map_or(0, |series| (0..series.buckets()).map(|bucket| series.bucket(bucket)).sum())
    }

    pub fn sum(&self) -> f64 {
        self.0.map_or(0.0, Series::sum)
    }
}

impl Series {
    fn new(bounds: &'static [f64], values: Vec<String>) -> Self {
        let buckets = bounds.len() + 1;
        let lines = (1 + buckets).div_ceil(Line::CELLS);
        Self {
            bounds,
            values,
            cells: (0..lines * shards()).map(|_| Line::default()).collect(),
            lines,
            exemplars: (0..buckets).map(|_| Mutex::new(None)).collect(),
        }
    }

    fn record(&self, value: f64) -> Option<usize> {
        if value.is_nan() {
            return None;
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let shard = own_shard();
        self.cell(shard, 1 + bucket).fetch_add(1, Relaxed);
        let sum = self.cell(shard, 0);
        let mut seen = sum.load(Relaxed);
        loop {
            let next = (f64::from_bits(seen) + value).to_bits();
            match sum.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => return Some(bucket),
                Err(now) => seen = now,
            }
        }
    }

    fn cell(&self, shard: usize, index: usize) -> &AtomicU64 {
        &self.cells[shard * self.lines + index / Line::CELLS].0[index % Line::CELLS]
    }

    fn buckets(&self) -> usize {
        self.bounds.len() + 1
    }

    fn bucket(&self, bucket: usize) -> u64 {
        (0..shards()).map(|shard| self.cell(shard, 1 + bucket).load(Relaxed)).sum()
    }

    fn sum(&self) -> f64 {
        (0..shards()).map(|shard| f64::from_bits(self.cell(shard, 0).load(Relaxed))).sum()
    }
}

/// As many as the machine runs threads at once, up to 16.
fn shards() -> usize {
    static SHARDS: OnceLock<usize> = OnceLock::new();
    *SHARDS.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get().min(16)))
}

/// Threads take turns.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Relaxed) % shards());
        }
        own.get()
    })
}

/// All series of a name.
pub(crate) struct Family {
    bounds: &'static [f64],
    desc: Desc,
    series: Arc<Mutex<Vec<&'static Series>>>,
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
        if let Some(found) = series.iter().find(|one| one.values == values) {
            return Histogram(Some(found));
        }
        let made: &Series = Box::leak(Box::new(Series::new(self.bounds, values)));
        series.push(made);
        Histogram(Some(made))
    }

    /// The exemplar of each bucket of the series with these label values.
    pub(crate) fn exemplars(&self, values: &[&str]) -> Vec<Option<Exemplar>> {
        let series = self.series.lock();
        match series.iter().find(|one| one.values == values) {
            Some(found) => found.exemplars.iter().map(|slot| *slot.lock()).collect(),
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
    series: Arc<Mutex<Vec<&'static Series>>>,
}

impl Collector for FamilyCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let metrics = self.series.lock().iter().map(|one| collect_series(&self.desc, one)).collect();
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
    for (index, bound) in series.bounds.iter().enumerate() {
        cumulative += series.bucket(index);
        let mut one = proto::Bucket::default();
        one.set_upper_bound(*bound);
        one.set_cumulative_count(cumulative);
        buckets.push(one);
    }
    cumulative += series.bucket(series.bounds.len());
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(cumulative);
    histogram.set_sample_sum(series.sum());
    histogram.set_bucket(buckets);
    let mut metric = proto::Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}
