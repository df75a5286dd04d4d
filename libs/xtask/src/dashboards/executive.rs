//! What personalisation is worth. The numbers of the first rows come from the stream of events.

use super::panel::{Dashboard, graph, query, row, stat};
use super::query::{aggregate, estimate, gauge, increase, mean, rate, series, share};
use attune_telemetry::catalogue::names::*;

const PERSONALIZED: &str = r#"source="personalized""#;
const BASELINE: &str = r#"source="baseline""#;

pub(super) fn dashboard() -> Dashboard {
    let day = |counter, matchers| increase(counter, "1d", "", matchers);
    let ratio =
        |counter, matchers| format!("{} / {}", day(counter, matchers), day(&PERSONALIZATION_IMPRESSIONS, matchers));
    // What the baseline earned per impression, times the personalised impressions, is what would have been earned.
    let impact = format!(
        "({} - {} / {} * {}) / 100",
        day(&PERSONALIZATION_REVENUE, PERSONALIZED),
        day(&PERSONALIZATION_REVENUE, BASELINE),
        day(&PERSONALIZATION_IMPRESSIONS, BASELINE),
        day(&PERSONALIZATION_IMPRESSIONS, PERSONALIZED),
    );
    let lift = |end: &str| format!("max({})", series(&PERSONALIZATION_LIFT, end, ""));
    Dashboard {
        name: "executive",
        title: "Attune / Executive",
        description: "Personalisation KPIs: lift, rates, reach, cost.",
        rows: vec![
            row("Personalization KPIs", vec![
                stat(
                    "Personalization Lift",
                    "percentunit",
                    "Click-through rate of the personalised assignment over the baseline's, less one, with its 95 % interval. Absent below 10,000 impressions of each.",
                    vec![query("lift", lift("")), query("low", lift("_ci_low")), query("high", lift("_ci_high"))],
                )
                .high_is_good(0.0, 0.15),
                stat("CTR", "percentunit", "Clicks over impressions of the last day, by assignment.", vec![
                    query("personalized", ratio(&PERSONALIZATION_CLICKS, PERSONALIZED)),
                    query("baseline", ratio(&PERSONALIZATION_CLICKS, BASELINE)),
                ]),
                stat("Conversion Rate", "percentunit", "Conversions over impressions of the last day, by assignment.", vec![
                    query("personalized", ratio(&PERSONALIZATION_CONVERSIONS, PERSONALIZED)),
                    query("baseline", ratio(&PERSONALIZATION_CONVERSIONS, BASELINE)),
                ]),
                stat(
                    "Revenue Impact",
                    "currencyUSD",
                    "Revenue of the last day on personalised pages, less what the same impressions would have earned at the baseline's rate. In the currency of the events.",
                    vec![query("impact", impact)],
                ),
            ]),
            row("Trends", vec![
                graph("Daily Lift Over Time", "percentunit", "Lift with its 95 % interval.", vec![
                    query("lift", lift("")),
                    query("low", lift("_ci_low")),
                    query("high", lift("_ci_high")),
                ]),
                graph("CTR by Segment", "percentunit", "Clicks over impressions, by how much is known of the visitor.", vec![query(
                    "{{segment}}",
                    format!(
                        "{} / {}",
                        increase(&PERSONALIZATION_SEGMENT_CLICKS, "1h", "segment", ""),
                        increase(&PERSONALIZATION_SEGMENT_IMPRESSIONS, "1h", "segment", ""),
                    ),
                )]),
            ]),
            row("Reach", vec![
                stat("Active Users", "short", "Visitors with an event in the last 24 hours.", vec![query(
                    "users",
                    aggregate("sum", "", &estimate(&PERSONALIZATION_ACTIVE_USERS)),
                )]),
                stat("Requests Today", "short", "Requests of visitors in the last 24 hours.", vec![query(
                    "requests",
                    increase(&EDGE_REQUESTS, "1d", "", ""),
                )]),
                stat("Edge Hit Rate", "percentunit", "Pages answered from the edge's own sets, of all that could be.", vec![query(
                    "hits",
                    share(&EDGE_REQUESTS, "", r#"cache="hit""#, r#"cache=~"hit|miss""#),
                )])
                .high_is_good(0.6, 0.7),
                stat("Avg Latency", "s", "Mean time to answer a page.", vec![query(
                    "mean",
                    mean(&PERSONALIZATION_DURATION, "", ""),
                )])
                .low_is_good(0.1, 0.15),
                stat("LLM Cost Today", "currencyUSD", "Spent of today's budget, and the budget.", vec![
                    query("spent", gauge("sum", &LLM_BUDGET_SPENT, "", "")),
                    query("budget", gauge("sum", &LLM_BUDGET, "", "")),
                ])
                .width(12),
                stat("Return Rate", "percentunit", "Visitors who come back within 7 days.", vec![query(
                    "returned",
                    aggregate("max", "", &estimate(&PERSONALIZATION_RETURN)),
                )])
                .width(12),
                graph("Traffic by Region", "reqps", "Requests of visitors, by region.", vec![query(
                    "{{region}}",
                    rate(&EDGE_REQUESTS, "region", ""),
                )])
                .width(24),
            ]),
        ],
    }
}
