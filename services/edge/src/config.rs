//! Settings of the edge; `config.toml` explains each.

use attune_config::HumanDuration;
use attune_decision::Policy;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
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
    pub prior_strength: f32,
    pub exploration_min: f32,
    pub exploration_max: f32,
    pub category_share: f32,
    pub category_decay: f32,
}

impl From<&PolicyConfig> for Policy {
    fn from(p: &PolicyConfig) -> Self {
        Self {
            uniform: p.uniform,
            prior_strength: p.prior_strength,
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
    pub fn validate(&self) -> Result<(), String> {
        let share = |name: &str, value: f64| {
            if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(format!("{name} must be from 0 to 1")) }
        };
        share("experiment.holdout", self.experiment.holdout)?;
        share("policy.uniform", self.policy.uniform.into())?;
        share("policy.exploration_min", self.policy.exploration_min.into())?;
        share("policy.exploration_max", self.policy.exploration_max.into())?;
        share("policy.category_share", self.policy.category_share.into())?;
        share("policy.category_decay", self.policy.category_decay.into())?;
        if self.policy.exploration_min > self.policy.exploration_max {
            return Err("policy.exploration_min must not be above policy.exploration_max".to_owned());
        }
        if self.policy.prior_strength.is_nan() || self.policy.prior_strength <= 0.0 {
            return Err("policy.prior_strength must be above 0".to_owned());
        }
        for (name, value) in [
            ("limits.connections", self.limits.connections),
            ("limits.origin_calls", self.limits.origin_calls),
            ("records.queue", self.records.queue),
            ("records.batch", self.records.batch),
        ] {
            if value == 0 {
                return Err(format!("{name} must be at least 1"));
            }
        }
        Ok(())
    }
}
