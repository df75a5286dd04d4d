//! What personalisation is for, computed from the stream of events.

use super::Service::Embedder;
use super::{Applies, LabelKey, Unit, counter, entries, estimate};
use attune_domain::{Segment, Source};

const SOURCE: LabelKey = LabelKey::of("source", super::texts::<Source>);
const SEGMENT: LabelKey = LabelKey::of("segment", super::texts::<Segment>);
/// A relative difference of two shares of a few percent is noise below this.
const LIFT_SAMPLES: u64 = 10_000;
const CONTENT_SAMPLES: u64 = 1_000;

entries! {
    PERSONALIZATION_IMPRESSIONS: Counter = counter(
        "personalization_impressions_total", Unit::Count, "Items shown, by the assignment of their page."
    )
        .labels(&[SOURCE])
        .when(Applies::Stream)
        .by(&[Embedder]);
    PERSONALIZATION_CLICKS: Counter = counter("personalization_clicks_total", Unit::Count, "Clicks, by assignment.")
        .labels(&[SOURCE])
        .when(Applies::Stream)
        .by(&[Embedder]);
    PERSONALIZATION_CONVERSIONS: Counter = counter(
        "personalization_conversions_total", Unit::Count, "Conversions, by assignment."
    )
        .labels(&[SOURCE])
        .when(Applies::Stream)
        .by(&[Embedder]);
    PERSONALIZATION_ENGAGEMENT: Counter = counter(
        "personalization_engagement_seconds_total", Unit::Seconds, "Dwell time with items, by assignment."
    )
        .labels(&[SOURCE])
        .when(Applies::Stream)
        .by(&[Embedder]);
    PERSONALIZATION_REVENUE: Counter = counter(
        "personalization_revenue_minor_units_total", Unit::MinorUnits, "Value of conversions, by assignment."
    )
        .labels(&[SOURCE])
        .when(Applies::Stream)
        .by(&[Embedder]);
    PERSONALIZATION_SEGMENT_IMPRESSIONS: Counter = counter(
        "personalization_segment_impressions_total", Unit::Count, "Items shown, by segment of visitors."
    )
        .labels(&[SEGMENT])
        .when(Applies::Stream)
        .by(&[Embedder]);
    PERSONALIZATION_SEGMENT_CLICKS: Counter = counter(
        "personalization_segment_clicks_total", Unit::Count, "Clicks, by segment of visitors."
    )
        .labels(&[SEGMENT])
        .when(Applies::Stream)
        .by(&[Embedder]);
    PERSONALIZATION_LIFT: Estimate = estimate(
        "personalization_lift_ratio",
        Unit::Ratio,
        LIFT_SAMPLES,
        "Click-through rate of the personalised assignment over the baseline's, less one.",
    )
        .interval()
        .when(Applies::Stream)
        .by(&[Embedder]);
    PERSONALIZATION_RETURN: Estimate = estimate(
        "personalization_return_ratio", Unit::Ratio, CONTENT_SAMPLES, "Share of visitors who come back within 7 days."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    PERSONALIZATION_ACTIVE_USERS: Estimate = estimate(
        "personalization_active_users", Unit::Count, 1, "Visitors with an event in the last 24 hours."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    CATALOG_COVERAGE: Estimate = estimate(
        "personalization_catalog_coverage_ratio", Unit::Ratio, CONTENT_SAMPLES, "Distinct items shown over items in the catalogue."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    DIVERSITY: Estimate = estimate(
        "personalization_diversity_score", Unit::Score, CONTENT_SAMPLES, "1 less the sum of squared category shares, unbiased."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    NOVELTY: Estimate = estimate(
        "personalization_novelty_ratio", Unit::Ratio, CONTENT_SAMPLES, "Share of items shown that the visitor had not seen."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    FRESHNESS: Estimate = estimate(
        "personalization_freshness_ratio", Unit::Ratio, CONTENT_SAMPLES, "Share of items shown that are younger than 7 days."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    SERENDIPITY: Estimate = estimate(
        "personalization_serendipity_ratio",
        Unit::Ratio,
        CONTENT_SAMPLES,
        "Share of liked items that the popularity baseline ranked in its lowest fifth.",
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    EXPLORATION_RATE: Estimate = estimate(
        "personalization_exploration_rate", Unit::Ratio, CONTENT_SAMPLES, "Share of slots that explore, by how they were drawn."
    )
        .labels(&[LabelKey::list("algorithm", &["thompson", "random"])])
        .when(Applies::Stream)
        .by(&[Embedder]);
    EXPLORATION_REWARD: Counter = counter(
        "personalization_exploration_reward_total", Unit::Count, "Rewards of exploring slots."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    EXPLOITATION_REWARD: Counter = counter(
        "personalization_exploitation_reward_total", Unit::Count, "Rewards of exploiting slots."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
}
