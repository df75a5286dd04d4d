//! Embeddings and models, watched from the stream of decisions and feedback.

use super::Service::{Embedder, Retrieval};
use super::{Applies, LabelKey, Unit, entries, estimate, histogram};

const VERSION: LabelKey = LabelKey::first("model_version", 4);
/// Below these, drift of what did not drift looks like drift.
const FEATURE_DRIFT_SAMPLES: u64 = 2_000;
const EMBEDDING_DRIFT_SAMPLES: u64 = 5_000;
const CALIBRATION_SAMPLES: u64 = 10_000;
/// Queries repeated exactly: recall within 0.011.
const RECALL_SAMPLES: u64 = 200;

entries! {
    EMBEDDING_FRESHNESS: Histogram = histogram(
        "embedding_freshness_seconds",
        Unit::Seconds,
        &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0],
        "Age of a visitor's embedding when it was read.",
    )
        .labels(&[LabelKey::list("user_segment", &["power", "active", "casual"])])
        .when(Applies::Stream)
        .by(&[Embedder]);
    EMBEDDING_STALENESS: Estimate = estimate(
        "embedding_staleness_rate", Unit::Ratio, 1_000, "Share of embeddings read that were older than 300 s."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    EMBEDDING_COVERAGE: Estimate = estimate(
        "embedding_coverage_ratio", Unit::Ratio, 1_000, "Share of visitors served who have an embedding."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    EMBEDDING_DRIFT: Estimate = estimate(
        "embedding_drift_score",
        Unit::Score,
        EMBEDDING_DRIFT_SAMPLES,
        "Cosine distance of the window's mean embedding to the baseline's.",
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    MODEL_NDCG: Estimate = estimate(
        "model_ndcg_score", Unit::Score, CALIBRATION_SAMPLES, "NDCG at 10, corrected for the position."
    )
        .labels(&[VERSION])
        .interval()
        .when(Applies::Stream)
        .by(&[Embedder]);
    MODEL_FEATURE_AGE: Histogram = histogram(
        "model_feature_age_seconds",
        Unit::Seconds,
        &[3600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 1_209_600.0, 2_592_000.0, 7_776_000.0, 31_536_000.0],
        "Time since the shop last stated a visitor's attribute, when a page read it.",
    )
        .labels(&[LabelKey::first("feature_name", 64)])
        .when(Applies::Stream)
        .by(&[Embedder]);
    MODEL_RECALL: Estimate = estimate(
        "model_recall_score", Unit::Score, RECALL_SAMPLES, "Recall of the index against exact search of the same snapshot."
    )
        .labels(&[VERSION, LabelKey::list("k", &["10", "100", "1000"])])
        .when(Applies::Stream)
        .by(&[Retrieval]);
    MODEL_CONFIDENCE: Histogram = histogram(
        "model_confidence_score",
        Unit::Score,
        &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        "Calibrated probability of the item at the top.",
    )
        .labels(&[VERSION])
        .when(Applies::Stream)
        .by(&[Embedder]);
    MODEL_CALIBRATION: Estimate = estimate(
        "model_calibration_error", Unit::Score, CALIBRATION_SAMPLES, "Expected calibration error over 15 bins, debiased."
    )
        .labels(&[VERSION])
        .when(Applies::Stream)
        .by(&[Embedder]);
    MODEL_FEATURE_DRIFT: Estimate = estimate(
        "model_feature_drift_score", Unit::Score, FEATURE_DRIFT_SAMPLES, "KL divergence of a feature from training, over 20 bins."
    )
        .labels(&[LabelKey::first("feature_name", 64)])
        .when(Applies::Stream)
        .by(&[Embedder]);
}
