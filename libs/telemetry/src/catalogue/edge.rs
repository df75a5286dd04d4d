//! The front door. Its request metrics are by cache outcome, because visitors speak HTTP.

use super::Service::Edge;
use super::{LabelKey, Unit, counter, entries, gauge, latency};
use attune_domain::{Level, Tier};

const POP: LabelKey = LabelKey::first("pop", 8);
pub(super) const TIER: LabelKey = LabelKey::of("tier", super::texts::<Tier>);

/// A level's number, as the answer gives it.
pub const LEVELS: [&str; Level::ALL.len()] = ["0", "1", "2", "3", "4", "5"];

entries! {
    EDGE_REQUESTS: Counter = counter("edge_requests_total", Unit::Count, "Requests of visitors, by cache outcome.")
        .labels(&[POP, LabelKey::list("cache", &["hit", "miss", "none"])])
        .by(&[Edge]);
    EDGE_ERRORS: Counter = counter("edge_errors_total", Unit::Count, "Requests answered with 5xx.")
        .labels(&[POP])
        .by(&[Edge]);
    EDGE_LATENCY: Histogram = latency("edge_latency_seconds", "Duration of visitors' requests.")
        .labels(&[POP])
        .by(&[Edge]);
    EDGE_CACHE_SIZE: Gauge = gauge("edge_cache_size_bytes", Unit::Bytes, "Bytes of the candidate sets held.")
        .labels(&[POP])
        .by(&[Edge]);
    EDGE_USERS: Gauge = gauge("edge_users", Unit::Count, "Visitors whose state is held.").by(&[Edge]);
    EDGE_SLOTS: Counter = counter("edge_slots_total", Unit::Count, "Slots of answers, by whether they explore.")
        .labels(&[LabelKey::list("exploration", &["true", "false"])])
        .by(&[Edge]);
    EDGE_EVENTS: Counter = counter("edge_events_total", Unit::Count, "Events of feedback batches, by what became of them.")
        .labels(&[LabelKey::list("outcome", &["accepted", "duplicate", "rejected", "unavailable"])])
        .by(&[Edge]);
    EDGE_DECISIONS_DROPPED: Counter = counter(
        "edge_decisions_dropped_total", Unit::Count, "Decision records lost on their way to the log, by reason."
    )
        .labels(&[LabelKey::list("reason", &["queue_full"])])
        .by(&[Edge]);
    PERSONALIZATION_REQUESTS: Counter = counter(
        "personalization_requests_total", Unit::Count, "Pages, by the deepest tier that worked on them and how they ended."
    )
        .labels(&[TIER, LabelKey::list("status", &["success", "error"])])
        .by(&[Edge]);
    PERSONALIZATION_DURATION: Histogram = latency("personalization_request_duration_seconds", "Time to answer a page, by tier.")
        .labels(&[TIER])
        .by(&[Edge]);
    PERSONALIZATION_LEVEL: Counter = counter(
        "personalization_level_total", Unit::Count, "Pages, by the level they were really served at."
    )
        .labels(&[LabelKey::list("level", &LEVELS)])
        .by(&[Edge]);
}
