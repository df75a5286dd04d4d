//! Every metric of the platform, once: what is registered, documented, drawn and alerted on comes from here.
//!
//! Always holds: a metric that is not in the catalogue cannot be registered, because only this module makes an
//! [`Entry`]; every label has a closed list of values or a bound on their number, so the worst case of series is a
//! number ([`worst_case`]); the type of an entry is the type of its handle.
//! Names are those of `spec/observability-spec.md`, with `_total` on counters.

mod api;
mod bandit;
mod business;
mod edge;
mod embedder;
mod engine;
mod llm;
mod model;
mod ranking;
mod red;
mod resource;
mod retrieval;
mod telemetry;

pub mod names {
    //! The entries by area, for those who register them.
    pub use super::api::*;
    pub use super::bandit::*;
    pub use super::business::*;
    pub use super::edge::*;
    pub use super::embedder::*;
    pub use super::engine::*;
    pub use super::llm::*;
    pub use super::model::*;
    pub use super::ranking::*;
    pub use super::resource::*;
    pub use super::retrieval::*;
    pub use super::telemetry::*;
}
pub(crate) use red::status_text;
pub use red::{RedEntries, StageEntries, red, stages};

use crate::{Counter, Estimate, Gauge, Histogram, Label};
use std::marker::PhantomData;
use std::ops::Deref;

/// Bounds of every latency histogram, in seconds: they contain each threshold that is alerted on.
pub const LATENCY_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0];
/// The same for language models.
pub const LLM_LATENCY_BUCKETS: &[f64] = &[0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 81.92];

crate::labels! {
    /// Who registers a metric.
    pub enum Service {
        Edge = "edge",
        Origin = "origin",
        Retrieval = "retrieval",
        Ranking = "ranking",
        Bandit = "bandit",
        Llm = "llm",
        Embedder = "embedder",
    }
}

impl Service {
    pub fn of(name: &str) -> Option<Self> {
        Self::all().iter().copied().find(|service| service.text() == name)
    }
}

const EVERY: &[Service] = &[
    Service::Edge,
    Service::Origin,
    Service::Retrieval,
    Service::Ranking,
    Service::Bandit,
    Service::Llm,
    Service::Embedder,
];

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets, without +Inf.
    Histogram(&'static [f64]),
}

crate::labels! {
    pub enum Unit {
        /// A number of things; the name says of what.
        Count = "count",
        Seconds = "seconds",
        /// Seconds since 1970.
        UnixTime = "unix time",
        Bytes = "bytes",
        /// 0 to 100.
        Percent = "percent",
        /// 0 to 1.
        Ratio = "ratio",
        Dollars = "dollars",
        /// Cents and the like, of the currency the events came in.
        MinorUnits = "minor currency units",
        /// 0 or 1.
        Flag = "flag",
        /// A measure without a unit.
        Score = "score",
    }
}

/// When a metric has a value at all. Where it does not apply, `<name>_samples` is exposed as 0 and the value is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    Always,
    /// Only with this engine.
    Engine(&'static str),
    /// Only where the machine or its kernel exposes it.
    Hardware(&'static str),
    /// Computed from what was shown and done; there once the first of it was computed.
    Stream,
}

/// The values a label may have.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    List(&'static [&'static str]),
    /// A list that is kept elsewhere.
    Of(fn() -> Vec<&'static str>),
    /// An open set: the first so many distinct values, then `_other`.
    First(usize),
}

#[derive(Debug, Clone, Copy)]
pub struct LabelKey {
    pub name: &'static str,
    pub values: Values,
}

impl LabelKey {
    const fn list(name: &'static str, values: &'static [&'static str]) -> Self {
        Self { name, values: Values::List(values) }
    }

    const fn of(name: &'static str, values: fn() -> Vec<&'static str>) -> Self {
        Self { name, values: Values::Of(values) }
    }

    const fn first(name: &'static str, most: usize) -> Self {
        Self { name, values: Values::First(most) }
    }

    /// None for an open set.
    pub fn closed(&self) -> Option<Vec<&'static str>> {
        match self.values {
            Values::List(values) => Some(values.to_vec()),
            Values::Of(values) => Some(values()),
            Values::First(_) => None,
        }
    }

    /// Most distinct values, `_other` included.
    pub fn cardinality(&self) -> usize {
        match self.values {
            Values::First(most) => most + 1,
            Values::List(values) => values.len(),
            Values::Of(values) => values().len(),
        }
    }
}

/// The texts of a closed list, for [`LabelKey::of`].
fn texts<L: Label>() -> Vec<&'static str> {
    L::all().iter().map(|value| value.text()).collect()
}

/// What is known of a metric.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// One sentence.
    pub help: &'static str,
    pub labels: &'static [LabelKey],
    pub services: &'static [Service],
    /// Registered once per process, by whichever service speaks for it.
    pub per_process: bool,
    pub applies: Applies,
    /// Observations without which the value would be noise: below them it is absent. 0 for what is always exact.
    pub samples: u64,
    /// `<name>_ci_low` and `<name>_ci_high` stand beside it: the 95 % interval.
    pub interval: bool,
}

impl Metric {
    /// Names of the series a scrape shows, the derived ones included.
    pub fn exposed(&self) -> Vec<String> {
        let name = self.name;
        let mut names = match self.kind {
            Kind::Counter | Kind::Gauge => vec![name.to_owned()],
            Kind::Histogram(_) => ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")).into(),
        };
        if self.samples > 0 || self.applies != Applies::Always {
            names.push(format!("{name}_samples"));
        }
        if self.interval {
            names.extend([format!("{name}_ci_low"), format!("{name}_ci_high")]);
        }
        names
    }

    /// Most series that one registry can have of it.
    pub fn worst_case(&self) -> usize {
        let sets: usize = self.labels.iter().map(LabelKey::cardinality).product();
        let each = match self.kind {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram(bounds) => bounds.len() + 3,
        };
        let samples = usize::from(self.samples > 0);
        sets * (each + samples + 2 * usize::from(self.interval))
    }
}

/// A metric that can be registered, with the type of its handle.
#[derive(Debug)]
pub struct Entry<H> {
    metric: Metric,
    handle: PhantomData<fn() -> H>,
}

impl<H> Deref for Entry<H> {
    type Target = Metric;

    fn deref(&self) -> &Metric {
        &self.metric
    }
}

impl<H> Entry<H> {
    const fn new(name: &'static str, kind: Kind, unit: Unit, help: &'static str) -> Self {
        let metric = Metric {
            name,
            kind,
            unit,
            help,
            labels: &[],
            services: &[],
            per_process: false,
            applies: Applies::Always,
            samples: 0,
            interval: false,
        };
        Self { metric, handle: PhantomData }
    }

    const fn labels(mut self, labels: &'static [LabelKey]) -> Self {
        self.metric.labels = labels;
        self
    }

    const fn by(mut self, services: &'static [Service]) -> Self {
        self.metric.services = services;
        self
    }

    const fn per_process(mut self) -> Self {
        self.metric.per_process = true;
        self.metric.services = EVERY;
        self
    }

    const fn when(mut self, applies: Applies) -> Self {
        self.metric.applies = applies;
        self
    }
}

const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Entry<Counter> {
    Entry::new(name, Kind::Counter, unit, help)
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Entry<Gauge> {
    Entry::new(name, Kind::Gauge, unit, help)
}

const fn histogram(name: &'static str, unit: Unit, bounds: &'static [f64], help: &'static str) -> Entry<Histogram> {
    Entry::new(name, Kind::Histogram(bounds), unit, help)
}

const fn latency(name: &'static str, help: &'static str) -> Entry<Histogram> {
    histogram(name, Unit::Seconds, LATENCY_BUCKETS, help)
}

/// A value that means nothing below a number of samples.
const fn estimate(name: &'static str, unit: Unit, samples: u64, help: &'static str) -> Entry<Estimate> {
    let mut entry = Entry::new(name, Kind::Gauge, unit, help);
    entry.metric.samples = samples;
    entry
}

impl Entry<Estimate> {
    const fn interval(mut self) -> Self {
        self.metric.interval = true;
        self
    }
}

/// Declares the entries of an area, and the list of them.
macro_rules! entries {
    ($($(#[$meta:meta])* $name:ident: $handle:ident = $entry:expr;)+) => {
        $($(#[$meta])* pub static $name: $crate::catalogue::Entry<$crate::$handle> = $entry;)+
        pub(in $crate::catalogue) static ALL: &[&$crate::catalogue::Metric] = &[$(&$name.metric),+];
    };
}
use entries;

/// Every metric, by area, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    areas().into_iter().flat_map(|(_, metrics)| metrics)
}

/// The same under headings.
pub fn areas() -> [(&'static str, Vec<&'static Metric>); 13] {
    [
        ("Requests, errors, durations", red::all()),
        ("Edge", edge::ALL.to_vec()),
        ("Business and content", business::ALL.to_vec()),
        ("API", api::ALL.to_vec()),
        ("Vector search", retrieval::ALL.to_vec()),
        ("Ranking", ranking::ALL.to_vec()),
        ("Bandit", bandit::ALL.to_vec()),
        ("Language model", llm::ALL.to_vec()),
        ("Streaming", embedder::ALL.to_vec()),
        ("Embeddings and models", model::ALL.to_vec()),
        ("Engines", engine::ALL.to_vec()),
        ("Resources", resource::ALL.to_vec()),
        ("Telemetry", telemetry::ALL.to_vec()),
    ]
}

/// The entry that exposes a series of this name.
pub fn exposing(series: &str) -> Option<&'static Metric> {
    all().find(|metric| {
        series.strip_prefix(metric.name).is_some_and(|rest| match rest {
            "" => !matches!(metric.kind, Kind::Histogram(_)),
            _ => metric.exposed().iter().any(|name| name == series),
        })
    })
}

/// Most series that a process with these services can expose.
pub fn worst_case(services: &[Service]) -> usize {
    let times = |metric: &Metric| match metric.per_process {
        true => 1,
        false => metric.services.iter().filter(|service| services.contains(service)).count(),
    };
    all().map(|metric| times(metric) * metric.worst_case()).sum()
}

#[cfg(test)]
#[allow(clippy::disallowed_macros, reason = "a test prints what it found")]
mod tests;
