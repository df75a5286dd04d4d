//! Embeddings, bandit and models. Most of it is computed from the stream of events, and absent below its samples.

use super::panel::{Dashboard, Panel, Query, Row, graph, query, row, stat};
use super::query::{aggregate, estimate, gauge, increase, quantile, rate, series, share};
use attune_telemetry::Estimate;
use attune_telemetry::catalogue::names::*;
use attune_telemetry::catalogue::{self, Entry};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "ml",
        title: "Attune / ML",
        description: "Embeddings, exploration, model quality, content quality.",
        rows: vec![summary(), trends(), models(), exploration(), content()],
    }
}

fn one(entry: &Entry<Estimate>) -> Vec<Query> {
    vec![query("now", aggregate("max", "", &estimate(entry)))]
}

fn summary() -> Row {
    row(
        "ML Metrics",
        vec![
            stat(
                "Embedding Freshness",
                "s",
                "Median and p95 of an embedding's age when it is read.",
                vec![
                    query("p50", quantile(0.5, &EMBEDDING_FRESHNESS, "", "")),
                    query("p95", quantile(0.95, &EMBEDDING_FRESHNESS, "", "")),
                ],
            )
            .low_is_good(60.0, 300.0),
            stat(
                "Staleness Rate",
                "percentunit",
                "Embeddings read that were older than 300 s.",
                one(&EMBEDDING_STALENESS),
            )
            .low_is_good(0.15, 0.2),
            stat(
                "Bandit Regret",
                "percentunit",
                "Reward missed against the best arm, relative; alerts look at the low end of its interval.",
                vec![
                    query("now", aggregate("max", "", &series(&BANDIT_REGRET, "", ""))),
                    query("low", aggregate("max", "", &series(&BANDIT_REGRET, "_ci_low", ""))),
                    query("believed", aggregate("max", "", &estimate(&BANDIT_BELIEVED_REGRET))),
                ],
            )
            .low_is_good(0.15, 0.2),
            stat(
                "Exploration",
                "percentunit",
                "Slots that explore: from the stream, and as the bandit chose them.",
                vec![
                    query("logged", aggregate("max", "", &estimate(&BANDIT_EXPLORATION_RATE))),
                    query("chosen", share(&BANDIT_SLOTS, "", r#"kind=~"explore|uniform""#, "")),
                ],
            ),
        ],
    )
}

fn trends() -> Row {
    row(
        "Trends",
        vec![
            graph(
                "Embedding Freshness Over Time",
                "s",
                "p95 of an embedding's age when it is read, by segment.",
                vec![query("{{user_segment}}", quantile(0.95, &EMBEDDING_FRESHNESS, "user_segment", ""))],
            ),
            graph(
                "Bandit Reward",
                "short",
                "Rewards of exploring and exploiting slots, an hour.",
                vec![
                    query("exploring", increase(&EXPLORATION_REWARD, "1h", "", "")),
                    query("exploiting", increase(&EXPLOITATION_REWARD, "1h", "", "")),
                ],
            ),
            graph(
                "Feature Drift",
                "short",
                "KL divergence from training, the ten features that drift most.",
                vec![query(
                    "{{feature_name}}",
                    format!("topk(10, {})", aggregate("max", "feature_name", &estimate(&MODEL_FEATURE_DRIFT))),
                )],
            )
            .low_is_good(0.1, 0.2),
            graph(
                "Model Confidence",
                "percentunit",
                "Median of the calibrated probability of the item at the top, by version.",
                vec![query("{{model_version}}", quantile(0.5, &MODEL_CONFIDENCE, "model_version", ""))],
            ),
        ],
    )
}

fn models() -> Row {
    row(
        "Models",
        vec![
            stat(
                "Model Version",
                "none",
                "The bundle that the origin decides by.",
                vec![query("{{model_version}}", gauge("max", &MODEL_DEPLOYED, "model_version", ""))],
            )
            .name(),
            stat(
                "Last Deploy",
                "dateTimeFromNow",
                "When the newest bundle went live.",
                vec![query("deployed", format!("1000 * {}", gauge("max", &MODEL_DEPLOYED, "", "")))],
            ),
            stat(
                "NDCG@10",
                "none",
                "Corrected for the position; compare versions by it, not absolute values.",
                one(&MODEL_NDCG),
            )
            .high_is_good(0.6, 0.7),
            stat(
                "Recall@100",
                "none",
                "The index against exact search of the same snapshot.",
                vec![query("now", aggregate("max", "", &series(&MODEL_RECALL, "", r#"k="100""#)))],
            )
            .high_is_good(0.8, 0.9),
            graph(
                "Inference Latency",
                "s",
                "p95 of the time that a model computes.",
                vec![query("{{model_name}}", quantile(0.95, &MODEL_INFERENCE, "model_name", ""))],
            ),
            graph(
                "Feature Presence",
                "percentunit",
                "Features that were missing or defaulted when a decision read them.",
                vec![query(
                    "{{feature_name}}",
                    share(&MODEL_FEATURES_READ, "feature_name", r#"presence=~"missing|defaulted""#, ""),
                )],
            ),
            graph(
                "Feature Age",
                "s",
                "Median time since the shop last stated an attribute, when a page read it.",
                vec![query("{{feature_name}}", quantile(0.5, &MODEL_FEATURE_AGE, "feature_name", ""))],
            ),
            graph(
                "Calibration Error",
                "short",
                "Over 15 bins, debiased.",
                vec![query("{{model_version}}", estimate(&MODEL_CALIBRATION))],
            ),
            graph("LLM Quality", "short", "Mean judged quality of explanations, 1 to 5.", one(&LLM_QUALITY)),
        ],
    )
}

fn exploration() -> Row {
    row(
        "Exploration",
        vec![
            graph("Arm Pull Distribution", "short", "Gini coefficient of impressions over items.", one(&BANDIT_GINI))
                .low_is_good(0.8, 0.9),
            graph(
                "Posterior Uncertainty",
                "short",
                "Mean standard deviation of the posteriors, by segment of items.",
                vec![query("{{item_segment}}", aggregate("avg", "item_segment", &estimate(&BANDIT_UNCERTAINTY)))],
            ),
            graph(
                "Cold Item Coverage",
                "percentunit",
                "Items younger than a day with more than 10 impressions.",
                one(&BANDIT_COLD_COVERAGE),
            )
            .high_is_good(0.5, 0.8),
            graph(
                "Slots by Kind",
                "short",
                "Slots a second, by how their item was chosen.",
                vec![query("{{kind}}", rate(&BANDIT_SLOTS, "kind", ""))],
            ),
        ],
    )
}

fn content() -> Row {
    row(
        "Embeddings and Content",
        vec![
            graph(
                "Embedding Coverage",
                "percentunit",
                "Visitors served who have an embedding.",
                one(&EMBEDDING_COVERAGE),
            )
            .high_is_good(0.9, 0.95),
            graph(
                "Embedding Drift",
                "short",
                "Cosine distance of the window's mean embedding to the baseline's.",
                one(&EMBEDDING_DRIFT),
            )
            .low_is_good(0.1, 0.2),
            graph(
                "Catalog Coverage",
                "percentunit",
                "Distinct items shown over items in the catalogue.",
                one(&CATALOG_COVERAGE),
            )
            .high_is_good(0.4, 0.6),
            graph("Diversity", "short", "1 less the sum of squared category shares.", one(&DIVERSITY))
                .high_is_good(0.5, 0.7),
            graph("Novelty", "percentunit", "Items shown that the visitor had not seen.", one(&NOVELTY)),
            graph("Freshness", "percentunit", "Items shown that are younger than 7 days.", one(&FRESHNESS))
                .high_is_good(0.05, 0.1),
            graph(
                "Serendipity",
                "percentunit",
                "Liked items that the popularity baseline ranked in its lowest fifth.",
                one(&SERENDIPITY),
            )
            .high_is_good(0.03, 0.05),
            samples(),
        ],
    )
}

/// Everything that is absent below its samples, so that a gap in another panel explains itself.
fn samples() -> Panel {
    let queries = catalogue::all().filter(|metric| metric.samples > 0);
    let queries = queries.map(|metric| query("{{__name__}}", series(metric, "_samples", "")));
    graph(
        "Samples",
        "short",
        "Observations behind each estimate; below the number in docs/metrics.md its value is absent.",
        queries.collect(),
    )
    .width(24)
}
