//! Settings of the origin; `config.toml` explains each.

use attune_config::HumanDuration;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OriginConfig {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub candidates: usize,
    pub own_items: usize,
    pub cohort_items: usize,
    pub cohort_ttl: HumanDuration,
    pub cohort_capacity: u64,
    pub state_snapshots: u64,
    pub deadlines: Deadlines,
    pub decisions: DecisionsConfig,
    pub watch: WatchConfig,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    pub context: HumanDuration,
    pub retrieval: HumanDuration,
    pub ranking: HumanDuration,
    pub bandit: HumanDuration,
    pub explain: HumanDuration,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionsConfig {
    pub queue: usize,
    pub batch: usize,
    pub retention: HumanDuration,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    pub queue: usize,
    pub posteriors_every: HumanDuration,
    pub heartbeat: HumanDuration,
    pub rebuilds: usize,
    pub rebuild_every: HumanDuration,
}

impl OriginConfig {
    /// What a type cannot say.
    pub fn validate(&self) -> Result<(), String> {
        for (name, value) in
            [("candidates", self.candidates), ("own_items", self.own_items), ("cohort_items", self.cohort_items)]
        {
            if !(1..=5_000).contains(&value) {
                return Err(format!("{name} must be from 1 to 5000"));
            }
        }
        for (name, value) in [
            ("decisions.queue", self.decisions.queue),
            ("decisions.batch", self.decisions.batch),
            ("watch.queue", self.watch.queue),
            ("watch.rebuilds", self.watch.rebuilds),
        ] {
            if value == 0 {
                return Err(format!("{name} must be at least 1"));
            }
        }
        Ok(())
    }
}
