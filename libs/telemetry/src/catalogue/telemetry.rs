//! Telemetry about itself.

use super::{EVERY, LabelKey, Unit, counter, entries, gauge, histogram};
use crate::Class;

const CLASS: LabelKey = LabelKey::of("class", || Class::ALL.iter().map(|class| class.as_str()).collect());
const LANE: LabelKey = LabelKey::list("lane", &["promoted", "sampled"]);
const VERDICT: LabelKey = LabelKey::list("verdict", &["keep", "drop"]);

entries! {
    TRACE_DECISIONS: Counter = counter(
        "trace_decisions_total", Unit::Count, "Local traces, by class and whether they were kept."
    )
        .labels(&[CLASS, VERDICT])
        .by(EVERY);
    TRACE_REWEIGHTED: Counter = counter(
        "trace_reweighted_total", Unit::Count, "Head-sampled traces whose class gave them another threshold."
    )
        .labels(&[CLASS])
        .by(EVERY);
    TRACE_SPANS_DROPPED: Counter = counter(
        "trace_spans_dropped_total", Unit::Count, "Spans beyond a trace's bound, or begun after its end."
    )
        .by(EVERY);
    TRACE_STORE_BYTES: Gauge = gauge("trace_store_bytes", Unit::Bytes, "Bytes of traces held until their verdict.")
        .by(EVERY);
    TRACE_STORE_LIMIT: Gauge = gauge("trace_store_limit_bytes", Unit::Bytes, "Bytes that traces may hold until their verdict.")
        .by(EVERY);
    TRACE_STORE_TRACES: Gauge = gauge("trace_store_traces", Unit::Count, "Traces held until their verdict.").by(EVERY);
    TRACE_STORE_SPANS: Gauge = gauge("trace_store_spans", Unit::Count, "Spans held until their verdict.").by(EVERY);
    TRACE_STORE_EVICTED: Counter = counter(
        "trace_store_evicted_total", Unit::Count, "Local traces dropped, or not recorded, for want of room or of patience; promoted: turned out afterwards to be wanted."
    )
        .labels(&[LabelKey::list("reason", &["oldest", "full", "age", "promoted"])])
        .by(EVERY);
    TRACE_HOLD_WAIT: Histogram = histogram(
        "trace_hold_wait_seconds",
        Unit::Seconds,
        &[0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
        "From the end of a local trace to its verdict.",
    )
        .by(EVERY);
    TRACE_LATE_SPANS: Counter = counter(
        "trace_late_spans_total", Unit::Count, "Spans that began after the end of their local trace, by the verdict they inherited."
    )
        .labels(&[LabelKey::list("verdict", &["held", "keep", "drop", "unknown"])])
        .by(EVERY);
    TRACE_BUS_PUBLISHED: Counter = counter("trace_bus_published_total", Unit::Count, "Verdicts told to other services.")
        .by(EVERY);
    TRACE_BUS_APPLIED: Counter = counter(
        "trace_bus_applied_total", Unit::Count, "Verdicts of other services that changed a held trace."
    )
        .by(EVERY);
    TRACE_BUS_UNMATCHED: Counter = counter(
        "trace_bus_unmatched_total", Unit::Count, "Verdicts of other services that came after the trace was settled otherwise here."
    )
        .by(EVERY);
    TRACE_BUS_LOST: Counter = counter(
        "trace_bus_lost_total", Unit::Count, "Verdicts, or batches of them, known not to have arrived."
    )
        .by(EVERY);
    TRACE_BUS_LAG: Gauge = gauge("trace_bus_lag_seconds", Unit::Seconds, "Age of the last verdict when it arrived.")
        .by(EVERY);
    TRACE_SUBTREE_MISSING: Counter = counter(
        "trace_subtree_missing_total", Unit::Count, "Kept calls whose callee did not record, by callee."
    )
        .labels(&[LabelKey::first("callee", 8)])
        .by(EVERY);
    TRACE_STRESS: Gauge = gauge("trace_stress_mode", Unit::Flag, "1 while new traces are recorded only by the head's lot.")
        .by(EVERY);
    TRACE_SHORT_WAIT: Gauge = gauge(
        "trace_short_wait", Unit::Flag, "1 while verdicts are waited for less long, for want of room."
    )
        .by(EVERY);
    TRACE_GOVERNOR: Gauge = gauge(
        "trace_governor_threshold", Unit::Ratio, "Share of error traces that the storm governor lets go, 0 when it rests."
    )
        .by(EVERY);
    TRACE_EXPORT_QUEUE: Gauge = gauge("trace_export_queue_length", Unit::Count, "Kept traces waiting to be exported.")
        .labels(&[LANE])
        .by(EVERY);
    TRACE_EXPORT_DROPPED: Counter = counter(
        "trace_export_dropped_total", Unit::Count, "Kept traces that could not be exported, by lane and reason."
    )
        .labels(&[LANE, LabelKey::list("reason", &["queue_full", "write_failed", "send_failed", "refused"])])
        .by(EVERY);
    TRACE_CONTEXT_REJECTED: Counter = counter(
        "trace_context_rejected_total", Unit::Count, "Incoming trace headers that were ignored, by reason."
    )
        .labels(&[LabelKey::list("reason", &["traceparent", "tracestate", "baggage", "sampled", "debug", "debug_rate"])])
        .by(EVERY);
    LOG_DROPPED: Counter = counter("log_dropped_total", Unit::Count, "Log lines that could not be written, by reason.")
        .labels(&[LabelKey::list("reason", &["queue_full", "write_failed"])])
        .by(EVERY);
    LOG_SUPPRESSED: Counter = counter(
        "log_suppressed_total", Unit::Count, "Log lines that repeated too often and were left out."
    )
        .by(EVERY);
    LABEL_OVERFLOW: Counter = counter(
        "telemetry_label_overflow_total", Unit::Count, "Values of a bounded label beyond its bound, counted under _other."
    )
        .labels(&[LabelKey::first("metric", 32), LabelKey::first("label", 8)])
        .by(EVERY);
    METRIC_CONFLICTS: Counter = counter(
        "telemetry_metric_conflicts_total",
        Unit::Count,
        "Series asked for by a service, or with labels, that the catalogue does not list; not exposed.",
    )
        .labels(&[LabelKey::first("metric", 16)])
        .by(EVERY);
}
