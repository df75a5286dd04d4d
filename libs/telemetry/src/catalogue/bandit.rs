//! Choosing and learning.

use super::Service::{Bandit, Embedder};
use super::{Applies, LabelKey, Unit, counter, entries, estimate, gauge};

crate::labels! {
    /// How the item of a slot was chosen.
    pub enum SlotKind { Exploit = "exploit", Explore = "explore", Uniform = "uniform" }
}

entries! {
    BANDIT_SLOTS: Counter = counter("bandit_slots_total", Unit::Count, "Slots of slates, by how their item was chosen.")
        .labels(&[LabelKey::of("kind", super::texts::<SlotKind>)])
        .by(&[Bandit]);
    BANDIT_POLL_ERRORS: Counter = counter(
        "bandit_posterior_poll_errors_total", Unit::Count, "Readings of the posteriors that failed; the last snapshot stayed."
    )
        .by(&[Bandit]);
    BANDIT_POSTERIOR_AGE: Gauge = gauge(
        "bandit_posterior_age_seconds", Unit::Seconds, "Time since the feature store last confirmed the posteriors."
    )
        .by(&[Bandit]);
    BANDIT_REGRET: Estimate = estimate(
        "bandit_cumulative_regret", Unit::Ratio, 1500, "Reward missed against the best arm, relative, over the window."
    )
        .interval()
        .when(Applies::Stream)
        .by(&[Embedder]);
    BANDIT_BELIEVED_REGRET: Estimate = estimate(
        "bandit_believed_regret", Unit::Ratio, 1500, "The same read from the posteriors, which flatter themselves."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    BANDIT_EXPLORATION_RATE: Estimate = estimate(
        "bandit_exploration_rate", Unit::Ratio, 1000, "Share of slots logged as exploration."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    BANDIT_UNCERTAINTY: Estimate = estimate(
        "bandit_posterior_uncertainty", Unit::Score, 1, "Mean standard deviation of the posteriors, by segment of items."
    )
        .labels(&[LabelKey::first("item_segment", 32)])
        .when(Applies::Stream)
        .by(&[Embedder]);
    BANDIT_GINI: Estimate = estimate(
        "bandit_arm_pull_distribution_gini", Unit::Score, 1000, "Gini coefficient of impressions over items."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
    BANDIT_COLD_COVERAGE: Estimate = estimate(
        "bandit_cold_item_coverage_ratio", Unit::Ratio, 20, "Share of items younger than a day with more than 10 impressions."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
}
