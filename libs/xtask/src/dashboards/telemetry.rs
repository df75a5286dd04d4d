//! Whether what the other dashboards show can be believed.

use super::panel::{Dashboard, Row, graph, query, row, stat};
use super::query::{gauge, increase, quantile, rate, share, up};
use attune_telemetry::catalogue::names::*;

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "telemetry",
        title: "Attune / Telemetry",
        description: "Traces, logs, metrics and alerting about themselves.",
        rows: vec![traces(), subtrees(), logs(), scrapes()],
    }
}

fn traces() -> Row {
    row(
        "Traces",
        vec![
            graph(
                "Trace Decisions",
                "short",
                "Local traces a second, by class and verdict.",
                vec![query("{{class}} {{verdict}}", rate(&TRACE_DECISIONS, "class, verdict", ""))],
            ),
            graph(
                "Errors Kept",
                "percentunit",
                "Traces of class error that are kept; below 1 only while the governor works.",
                vec![query(
                    "{{job}}",
                    share(&TRACE_DECISIONS, "job", r#"class="error", verdict="keep""#, r#"class="error""#),
                )],
            )
            .high_is_good(0.9, 0.99),
            graph(
                "Trace Store",
                "bytes",
                "Bytes held until a verdict, and their limit.",
                vec![
                    query("{{job}}", gauge("max", &TRACE_STORE_BYTES, "job", "")),
                    query("limit {{job}}", gauge("max", &TRACE_STORE_LIMIT, "job", "")),
                ],
            ),
            graph(
                "Trace Store Contents",
                "short",
                "Traces and spans held, and traces given up in the last hour, by reason.",
                vec![
                    query("traces", gauge("sum", &TRACE_STORE_TRACES, "", "")),
                    query("spans", gauge("sum", &TRACE_STORE_SPANS, "", "")),
                    query("given up: {{reason}}", increase(&TRACE_STORE_EVICTED, "1h", "reason", "")),
                ],
            ),
            graph(
                "Hold Wait",
                "s",
                "From the end of a local trace to its verdict.",
                vec![
                    query("p50", quantile(0.5, &TRACE_HOLD_WAIT, "", "")),
                    query("p99", quantile(0.99, &TRACE_HOLD_WAIT, "", "")),
                ],
            )
            .low_is_good(2.5, 5.0),
            graph(
                "Late Spans",
                "short",
                "Spans a second that ended after their local root, by what became of them.",
                vec![query("{{verdict}}", rate(&TRACE_LATE_SPANS, "verdict", ""))],
            ),
            graph(
                "Stress Mode",
                "short",
                "1 while new traces are recorded only by the head's lot.",
                vec![
                    query("{{job}}", gauge("max", &TRACE_STRESS, "job", "")),
                    query("short wait {{job}}", gauge("max", &TRACE_SHORT_WAIT, "job", "")),
                ],
            ),
            graph(
                "Governor",
                "percentunit",
                "Share of error traces that the storm governor lets go.",
                vec![query("{{job}}", gauge("max", &TRACE_GOVERNOR, "job", ""))],
            ),
            graph(
                "Export Queue",
                "short",
                "Kept traces waiting to be exported.",
                vec![query("{{lane}}", gauge("sum", &TRACE_EXPORT_QUEUE, "lane", ""))],
            ),
            graph(
                "Export Drops",
                "short",
                "Kept traces that could not be exported, over the last hour.",
                vec![query("{{lane}} {{reason}}", increase(&TRACE_EXPORT_DROPPED, "1h", "lane, reason", ""))],
            ),
        ],
    )
}

fn subtrees() -> Row {
    row(
        "Whole Traces",
        vec![
            graph(
                "Decision Bus",
                "short",
                "Verdicts a second: told, applied, and for traces that nobody holds.",
                vec![
                    query("published", rate(&TRACE_BUS_PUBLISHED, "", "")),
                    query("applied", rate(&TRACE_BUS_APPLIED, "", "")),
                    query("unmatched", rate(&TRACE_BUS_UNMATCHED, "", "")),
                    query("lost", rate(&TRACE_BUS_LOST, "", "")),
                ],
            ),
            graph(
                "Decision Bus Lag",
                "s",
                "Age of the last verdict when it arrived.",
                vec![query("{{job}}", gauge("max", &TRACE_BUS_LAG, "job", ""))],
            ),
            graph(
                "Missing Subtrees",
                "short",
                "Kept calls a second whose callee did not record.",
                vec![query("{{callee}}", rate(&TRACE_SUBTREE_MISSING, "callee", ""))],
            ),
            graph(
                "Reweighted Traces",
                "short",
                "Head-sampled traces a second whose class gave them another threshold.",
                vec![query("{{class}}", rate(&TRACE_REWEIGHTED, "class", ""))],
            ),
            graph(
                "Spans Dropped",
                "short",
                "Spans a second beyond a trace's bound.",
                vec![query("{{job}}", rate(&TRACE_SPANS_DROPPED, "job", ""))],
            ),
            graph(
                "Rejected Context",
                "short",
                "Incoming trace headers a second that were ignored, by reason.",
                vec![query("{{reason}}", rate(&TRACE_CONTEXT_REJECTED, "reason", ""))],
            ),
        ],
    )
}

fn logs() -> Row {
    row(
        "Logs",
        vec![
            graph(
                "Log Lines",
                "short",
                "Over the last hour: lost by reason, left out as repetitions, missing in the pipeline, scrubbed by it.",
                vec![
                    query("lost: {{reason}}", increase(&LOG_DROPPED, "1h", "reason", "")),
                    query("repeated", increase(&LOG_SUPPRESSED, "1h", "", "")),
                    query("missing", r#"sum(increase(log_sequence_gaps_total{region=~"$region"}[1h]))"#),
                    query("scrubbed", r#"sum(increase(log_scrubbed_total{region=~"$region"}[1h]))"#),
                ],
            )
            .width(24),
        ],
    )
}

fn scrapes() -> Row {
    row(
        "Metrics and Alerting",
        vec![
            stat(
                "Scrape Targets",
                "none",
                "Processes that answer, of those that should.",
                vec![query("up", format!("sum({})", up("$job"))), query("all", format!("count({})", up("$job")))],
            )
            .width(12),
            stat(
                "Alert Notifications",
                "short",
                "Over the last hour: dropped by Prometheus, and not delivered by Alertmanager.",
                vec![
                    query("dropped", "sum(increase(prometheus_notifications_dropped_total[1h]))"),
                    query("undelivered", "sum(increase(alertmanager_notifications_failed_total[1h]))"),
                ],
            )
            .width(12)
            .low_is_good(1.0, 10.0),
            graph(
                "Scrape Samples",
                "short",
                "Series of each target, after relabelling. The scrape configuration refuses twice the worst case.",
                vec![query(
                    "{{job}} {{instance}}",
                    r#"scrape_samples_post_metric_relabeling{region=~"$region", job=~"$job", instance=~"$instance"}"#,
                )],
            ),
            graph(
                "Label Overflow",
                "short",
                "Values beyond a label's bound and series that the catalogue does not list, over the last hour.",
                vec![
                    query("{{metric}} {{label}}", increase(&LABEL_OVERFLOW, "1h", "metric, label", "")),
                    query("not listed: {{metric}}", increase(&METRIC_CONFLICTS, "1h", "metric", "")),
                ],
            ),
            graph(
                "Rule Evaluation",
                "short",
                "Failures and missed iterations over the last hour, by group.",
                vec![
                    query(
                        "failed: {{rule_group}}",
                        "sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total[1h]))",
                    ),
                    query(
                        "missed: {{rule_group}}",
                        "sum by (rule_group) (increase(prometheus_rule_group_iterations_missed_total[1h]))",
                    ),
                ],
            ),
            graph(
                "Scrape Duration",
                "s",
                "Time to scrape each target.",
                vec![query(
                    "{{job}} {{instance}}",
                    r#"scrape_duration_seconds{region=~"$region", job=~"$job", instance=~"$instance"}"#,
                )],
            ),
        ],
    )
}
