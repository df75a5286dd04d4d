//! What an operator may choose.

use attune_storage::{Clock, FeatureOptions};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbedderConfig {
    /// Evidence this old counts half. A change restates what is stored at its worth of the moment.
    pub half_life: Duration,
    /// Records applied in one durable step.
    pub batch_records: usize,
    /// Longest wait for a record before the loop looks around.
    pub poll_wait: Duration,
    /// An outcome counts when its event is accepted this soon after the decision; what was counted is kept longer.
    pub outcome_window: Duration,
    /// First and longest pause after a store that failed but may come back.
    pub retry_first: Duration,
    pub retry_longest: Duration,
}

impl Default for EmbedderConfig {
    fn default() -> Self {
        Self {
            half_life: Duration::from_secs(14 * 86_400),
            batch_records: 512,
            poll_wait: Duration::from_secs(1),
            outcome_window: Duration::from_secs(30 * 86_400),
            retry_first: Duration::from_millis(100),
            retry_longest: Duration::from_secs(5),
        }
    }
}

impl EmbedderConfig {
    /// Every problem, each naming its field.
    pub fn problems(&self) -> Vec<String> {
        let second = Duration::from_secs(1);
        [
            (self.half_life < second, "half_life: must be at least a second"),
            (!(1..=8_192).contains(&self.batch_records), "batch_records: must be 1 to 8192"),
            (self.poll_wait.is_zero(), "poll_wait: must not be zero"),
            (self.poll_wait > 60 * second, "poll_wait: must be at most a minute"),
            (self.outcome_window < second, "outcome_window: must be at least a second"),
            (self.retry_first.is_zero(), "retry_first: must not be zero"),
            (self.retry_longest < self.retry_first, "retry_longest: must not be below retry_first"),
        ]
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, problem)| problem.to_owned())
        .collect()
    }

    /// How the feature store that this service owns is to be opened.
    pub fn feature_options(&self, clock: Clock) -> FeatureOptions {
        FeatureOptions { half_life: self.half_life, clock }
    }
}
