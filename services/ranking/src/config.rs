//! Configuration; the defaults and their meaning are in `config.toml`.

use attune_config::{HumanDuration, Problems};
use serde::{Deserialize, Serialize};

pub const DEFAULTS: &str = include_str!("../config.toml");

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RankingConfig {
    pub max_items: usize,
    pub threads: usize,
    pub queue: usize,
    pub deadline: HumanDuration,
}

impl RankingConfig {
    pub fn validate(&self, problems: &mut Problems) {
        problems.check((1..=100_000).contains(&self.max_items), "max_items", "must be 1 to 100000");
        problems.check(self.threads <= 1024, "threads", "must be at most 1024");
        problems.check(self.queue <= 100_000, "queue", "must be at most 100000");
        problems.check(!self.deadline.0.is_zero(), "deadline", "must be positive");
    }
}
