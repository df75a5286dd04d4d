//! Configuration; the defaults and their meaning are in `config.toml`.

use attune_config::{HumanDuration, Problems};
use attune_decision::Policy;
use attune_runtime::ProcessConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub const DEFAULTS: &str = include_str!("../config.toml");

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BanditConfig {
    pub max_items: usize,
    pub max_limit: usize,
    pub poll: HumanDuration,
    pub poll_timeout: HumanDuration,
    pub policy: PolicySection,
    pub own: OwnConfig,
    pub process: ProcessConfig,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySection {
    pub uniform: f32,
    pub prior_rewards: f32,
    pub exploration_min: f32,
    pub exploration_max: f32,
    pub category_share: f32,
    pub category_decay: f32,
}

/// Where a process of its own finds what `attune up` would hand it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnConfig {
    pub bundle: PathBuf,
    pub origin: String,
    pub embedder: String,
    pub timeout: HumanDuration,
    pub patience: HumanDuration,
}

impl BanditConfig {
    pub fn validate(&self, problems: &mut Problems) {
        problems.check(!self.own.timeout.0.is_zero(), "own.timeout", "must be positive");
        problems.check((1..=100_000).contains(&self.max_items), "max_items", "must be 1 to 100000");
        problems.check((1..=10_000).contains(&self.max_limit), "max_limit", "must be 1 to 10000");
        problems.check(!self.poll.0.is_zero(), "poll", "must be positive");
        problems.check(!self.poll_timeout.0.is_zero(), "poll_timeout", "must be positive");
        let policy = &self.policy;
        let shares = [
            ("policy.uniform", policy.uniform),
            ("policy.exploration_min", policy.exploration_min),
            ("policy.exploration_max", policy.exploration_max),
            ("policy.category_share", policy.category_share),
            ("policy.category_decay", policy.category_decay),
        ];
        for (key, share) in shares {
            problems.check((0.0..=1.0).contains(&share), key, "must be 0 to 1");
        }
        let ordered = policy.exploration_min <= policy.exploration_max;
        problems.check(ordered, "policy.exploration_min", "must not be above policy.exploration_max");
        let strength = policy.prior_rewards;
        problems.check(strength.is_finite() && strength > 0.0, "policy.prior_rewards", "must be positive");
    }

    pub fn policy(&self) -> Policy {
        let policy = &self.policy;
        Policy {
            uniform: policy.uniform,
            prior_rewards: policy.prior_rewards,
            exploration_min: policy.exploration_min,
            exploration_max: policy.exploration_max,
            category_share: policy.category_share,
            category_decay: policy.category_decay,
        }
    }
}
