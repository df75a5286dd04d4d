//! Every metric and span field of this service.

use attune_decision::{Outcome, SourceKind};
use attune_telemetry::catalogue::names;
use attune_telemetry::{By, Counter, Gauge, Histogram, Name, Span, Telemetry};
use std::time::Duration;

pub use attune_telemetry::catalogue::names::VectorOperation as Operation;

pub(crate) const ANN_SEARCH: &str = "retrieval.ann_search";

#[derive(Clone)]
pub struct RetrievalMetrics {
    queries: By<Operation, Counter>,
    latency: By<Operation, Histogram>,
    outcomes: Vec<[Counter; 4]>,
    health: Gauge,
    indexed: Gauge,
    in_graphs: Gauge,
    merges: Counter,
    follow_errors: Counter,
}

const OUTCOMES: [(Outcome, &str); 4] =
    [(Outcome::Ok, "ok"), (Outcome::Late, "late"), (Outcome::Failed, "failed"), (Outcome::NotAsked, "not_asked")];

impl RetrievalMetrics {
    pub fn register(telemetry: &Telemetry) -> Self {
        let metrics = telemetry.metrics();
        let outcomes = |source: SourceKind| {
            OUTCOMES.map(|(_, outcome)| metrics.counter(&names::RETRIEVAL_SOURCES, &[source.as_str(), outcome]))
        };
        Self {
            queries: metrics.counter_by(&names::VECTORDB_QUERIES),
            latency: metrics.histogram_by(&names::VECTORDB_LATENCY),
            outcomes: SourceKind::ALL.map(outcomes).into(),
            health: metrics.gauge(&names::VECTORDB_HEALTH, &[]),
            indexed: metrics.gauge(&names::RETRIEVAL_INDEX_ITEMS, &[]),
            in_graphs: metrics.gauge(&names::RETRIEVAL_GRAPH_ITEMS, &[]),
            merges: metrics.counter(&names::RETRIEVAL_MERGES, &[]),
            follow_errors: metrics.counter(&names::RETRIEVAL_FOLLOW_ERRORS, &[]),
        }
    }

    pub fn operated(&self, operation: Operation, took: Duration) {
        self.queries.get(operation).inc();
        self.latency.get(operation).observe(took.as_secs_f64());
    }

    pub fn source_ended(&self, source: SourceKind, outcome: Outcome) {
        self.outcomes[usize::from(source.code())][usize::from(outcome.code())].inc();
    }

    pub fn index_size(&self, items: usize, in_graphs: usize) {
        self.indexed.set(items as f64);
        self.in_graphs.set(in_graphs as f64);
    }

    /// Whether the index follows the catalogue; it answers searches as long as there is a view at all.
    pub fn index_follows(&self, follows: bool) {
        self.health.set(if follows { 1.0 } else { 0.0 });
    }

    pub fn merged(&self) {
        self.merges.inc();
    }

    pub fn follow_failed(&self) {
        self.follow_errors.inc();
    }
}

/// Describes a search before it starts.
pub(crate) fn describe_search(span: &Span, index: &[u8; 16], top_k: usize) {
    let hex: String = index[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(name) = Name::new(&hex) {
        span.set("index", &name);
    }
    span.set("top_k", top_k);
}

/// Describes all that was found.
pub(crate) fn describe_candidates(span: &Span, sources: usize, candidates: usize) {
    span.set("sources", sources);
    span.set("candidate_count", candidates);
}
