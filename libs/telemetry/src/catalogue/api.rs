//! The origin beside its request and stage metrics: pages, events, decisions.

use super::Service::Origin;
use super::{EVERY, LabelKey, Unit, counter, entries, gauge, histogram};

entries! {
    ORIGIN_CANDIDATES: Histogram = histogram(
        "origin_candidates",
        Unit::Count,
        &[10.0, 25.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 750.0, 1000.0],
        "Candidates that reached the ranking model, per page.",
    )
        .by(&[Origin]);
    ORIGIN_EVENTS_ACCEPTED: Counter = counter(
        "origin_events_accepted_total", Unit::Count, "Events made durable, by whether they stood in the log before."
    )
        .labels(&[LabelKey::list("duplicate", &["true", "false"])])
        .by(&[Origin]);
    ORIGIN_DECISIONS_STORED: Counter = counter(
        "origin_decisions_stored_total", Unit::Count, "Decision records written to the decision log."
    )
        .by(&[Origin]);
    ORIGIN_DECISIONS_DROPPED: Counter = counter(
        "origin_decisions_dropped_total", Unit::Count, "Decision records that were lost, by reason."
    )
        .labels(&[LabelKey::list("reason", &["queue_full", "store", "malformed"])])
        .by(&[Origin]);
    ORIGIN_BACKGROUND_FAILURES: Counter = counter(
        "origin_background_failures_total", Unit::Count, "Background steps that failed and will be tried again."
    )
        .labels(&[LabelKey::list("step", &["posteriors", "push_view", "retain", "forget_dedup"])])
        .by(&[Origin]);
    ORIGIN_PUSH_SKIPPED: Counter = counter(
        "origin_push_skipped_total", Unit::Count, "Rebuilds of an own list left out because too many waited."
    )
        .by(&[Origin]);
    ORIGIN_USERS_ERASED: Counter = counter("origin_users_erased_total", Unit::Count, "Visitors erased.").by(&[Origin]);
    MODEL_FEATURES_READ: Counter = counter(
        "model_features_read_total", Unit::Count, "Features read for a decision, by whether they were there."
    )
        .labels(&[
            LabelKey::first("feature_name", 64),
            LabelKey::list("presence", &["present", "missing", "defaulted"]),
        ])
        .by(&[Origin]);
    RPC_CIRCUIT_OPENED: Counter = counter("rpc_circuit_opened_total", Unit::Count, "Times a peer was given up for a while.")
        .labels(&[LabelKey::first("peer", 8)])
        .by(EVERY);
    RPC_CIRCUIT_REFUSED: Counter = counter(
        "rpc_circuit_refused_total", Unit::Count, "Calls not made because the peer was given up."
    )
        .labels(&[LabelKey::first("peer", 8)])
        .by(EVERY);
    RPC_CIRCUIT_OPEN: Gauge = gauge("rpc_circuit_open", Unit::Flag, "1 while calls to the peer are refused.")
        .labels(&[LabelKey::first("peer", 8)])
        .by(EVERY);
}
