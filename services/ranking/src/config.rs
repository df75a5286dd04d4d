//! Configuration; the defaults and their meaning are in `config.toml`.

use attune_config::{HumanDuration, Problems};
use attune_runtime::ProcessConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub const DEFAULTS: &str = include_str!("../config.toml");

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RankingConfig {
    pub max_items: usize,
    pub threads: usize,
    pub queue: usize,
    pub deadline: HumanDuration,
    pub own: OwnConfig,
    pub process: ProcessConfig,
}

/// Where a process of its own finds what `attune up` would hand it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnConfig {
    pub bundle: PathBuf,
    pub origin: String,
    pub timeout: HumanDuration,
    pub patience: HumanDuration,
}

impl RankingConfig {
    pub fn validate(&self, problems: &mut Problems) {
        problems.check(!self.own.timeout.0.is_zero(), "own.timeout", "must be positive");
        problems.check((1..=100_000).contains(&self.max_items), "max_items", "must be 1 to 100000");
        problems.check(self.threads <= 1024, "threads", "must be at most 1024");
        problems.check(self.queue <= 100_000, "queue", "must be at most 100000");
        problems.check(!self.deadline.0.is_zero(), "deadline", "must be positive");
    }
}
