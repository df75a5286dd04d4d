//! The vector index and the candidate sources around it.

use super::Service::Retrieval;
use super::{LabelKey, Unit, counter, entries, gauge, latency};

crate::labels! {
    /// What was asked of the vector index.
    pub enum VectorOperation { Search = "search", Upsert = "upsert" }
}

const OPERATION: LabelKey = LabelKey::of("operation", super::texts::<VectorOperation>);

entries! {
    VECTORDB_QUERIES: Counter = counter("vectordb_queries_total", Unit::Count, "Operations on the vector index.")
        .labels(&[OPERATION])
        .by(&[Retrieval]);
    VECTORDB_LATENCY: Histogram = latency("vectordb_latency_seconds", "Duration of operations on the vector index.")
        .labels(&[OPERATION])
        .by(&[Retrieval]);
    VECTORDB_HEALTH: Gauge = gauge(
        "vectordb_health_status", Unit::Flag, "1 while the index answers searches and follows the catalogue, otherwise 0."
    )
        .by(&[Retrieval]);
    RETRIEVAL_SOURCES: Counter = counter(
        "retrieval_source_outcomes_total", Unit::Count, "What became of each candidate source."
    )
        .labels(&[
            LabelKey::list("source", &[
                "neighbours", "similar_to_recent", "trending", "fresh", "cohort_favourites", "related", "search",
            ]),
            LabelKey::list("outcome", &["ok", "late", "failed", "not_asked"]),
        ])
        .by(&[Retrieval]);
    RETRIEVAL_INDEX_ITEMS: Gauge = gauge("retrieval_index_items", Unit::Count, "Items that a search can find.")
        .by(&[Retrieval]);
    RETRIEVAL_GRAPH_ITEMS: Gauge = gauge("retrieval_index_graph_items", Unit::Count, "Items of the index that are in a graph.")
        .by(&[Retrieval]);
    RETRIEVAL_MERGES: Counter = counter("retrieval_index_merges_total", Unit::Count, "Segments sealed in the background.")
        .by(&[Retrieval]);
    RETRIEVAL_FOLLOW_ERRORS: Counter = counter(
        "retrieval_follow_errors_total",
        Unit::Count,
        "Failures to read the event log or to derive a view from the catalogue.",
    )
        .by(&[Retrieval]);
}
