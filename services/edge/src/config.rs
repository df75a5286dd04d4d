//! Settings of the edge; `config.toml` explains each.

use attune_config::{HumanDuration, Problems};
use attune_decision::Policy;
use attune_runtime::ProcessConfig;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    pub process: ProcessConfig,
    pub own: OwnConfig,
    pub listen: SocketAddr,
    pub pop: String,
    pub origin_deadline: HumanDuration,
    pub feedback_deadline: HumanDuration,
    pub explain_deadline: HumanDuration,
    pub experiment: ExperimentConfig,
    pub cache: CacheConfig,
    pub policy: PolicyConfig,
    pub limits: LimitsConfig,
    pub records: RecordsConfig,
}

/// Where a process of its own finds what `attune up` would hand it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnConfig {
    pub bundle: PathBuf,
    pub subject_key: PathBuf,
    pub origin: String,
    pub timeout: HumanDuration,
    pub patience: HumanDuration,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentConfig {
    pub holdout: f64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    pub users: u64,
    pub cohorts: u64,
    pub fresh: HumanDuration,
    pub stale: HumanDuration,
    pub behind: HumanDuration,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    pub uniform: f32,
    pub prior_rewards: f32,
    pub exploration_min: f32,
    pub exploration_max: f32,
    pub category_share: f32,
    pub category_decay: f32,
}

impl From<&PolicyConfig> for Policy {
    fn from(p: &PolicyConfig) -> Self {
        Self {
            uniform: p.uniform,
            prior_rewards: p.prior_rewards,
            exploration_min: p.exploration_min,
            exploration_max: p.exploration_max,
            category_share: p.category_share,
            category_decay: p.category_decay,
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    pub connections: usize,
    pub origin_calls: usize,
    pub client_rate: u32,
    pub client_burst: u32,
    pub receive: HumanDuration,
    pub idle: HumanDuration,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsConfig {
    pub queue: usize,
    pub batch: usize,
    pub every: HumanDuration,
}

impl EdgeConfig {
    /// What a type cannot say.
    pub fn check(&self, problems: &mut Problems) {
        let policy = &self.policy;
        for (name, value) in [
            ("experiment.holdout", self.experiment.holdout),
            ("policy.uniform", policy.uniform.into()),
            ("policy.exploration_min", policy.exploration_min.into()),
            ("policy.exploration_max", policy.exploration_max.into()),
            ("policy.category_share", policy.category_share.into()),
            ("policy.category_decay", policy.category_decay.into()),
        ] {
            problems.check((0.0..=1.0).contains(&value), name, "must be from 0 to 1");
        }
        let ordered = policy.exploration_min <= policy.exploration_max;
        problems.check(ordered, "policy.exploration_min", "must not be above policy.exploration_max");
        problems.check(policy.prior_rewards > 0.0, "policy.prior_rewards", "must be above 0");
        let lasting = self.limits.idle.get() >= self.limits.receive.get();
        problems.check(lasting, "limits.idle", "must not be below limits.receive");
        for (name, value) in [
            ("limits.connections", self.limits.connections),
            ("limits.origin_calls", self.limits.origin_calls),
            ("records.queue", self.records.queue),
            ("records.batch", self.records.batch),
        ] {
            problems.check(value > 0, name, "must be at least 1");
        }
    }
}
