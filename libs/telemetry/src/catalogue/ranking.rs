//! Scoring, and the time that models compute.

use super::Service::{Bandit, Origin, Ranking};
use super::{LabelKey, Unit, counter, entries, gauge, latency};

entries! {
    MODEL_INFERENCE: Histogram = latency("model_inference_latency_seconds", "Time a model computed for one call.")
        .labels(&[LabelKey::list("model_name", &["ranker", "ranker_attribution", "thompson"])])
        .by(&[Ranking, Bandit]);
    RANKING_SCORED: Counter = counter("ranking_scored_items_total", Unit::Count, "Candidates scored.").by(&[Ranking]);
    MODEL_DEPLOYED: Gauge = gauge(
        "model_deployed_timestamp_seconds", Unit::UnixTime, "When the service began to serve the bundle of this version."
    )
        .labels(&[LabelKey::first("model_version", 8)])
        .by(&[Origin, Ranking]);
}
