//! Settings of the origin; `config.toml` explains each.

use attune_config::{HumanDuration, Problems};
use attune_runtime::ProcessConfig;
use attune_storage::EnginesConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OriginConfig {
    pub process: ProcessConfig,
    pub own: OwnConfig,
    pub candidates: usize,
    pub own_items: usize,
    pub cohort_items: usize,
    pub cohort_ttl: HumanDuration,
    pub cohort_capacity: u64,
    pub state_snapshots: u64,
    pub checkpoint_every: HumanDuration,
    pub deadlines: Deadlines,
    pub decisions: DecisionsConfig,
    pub watch: WatchConfig,
    pub engines: EnginesConfig,
}

/// Where a process of its own finds what `attune up` would hand it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnConfig {
    pub event_log: String,
    pub decision_log: PathBuf,
    pub bundle: PathBuf,
    pub timeout: HumanDuration,
    pub patience: HumanDuration,
    pub retrieval: String,
    pub ranking: String,
    pub bandit: String,
    pub llm: String,
    pub embedder: String,
    pub features: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    pub context: HumanDuration,
    pub retrieval: HumanDuration,
    pub ranking: HumanDuration,
    pub bandit: HumanDuration,
    pub explain: HumanDuration,
    pub explain_open: HumanDuration,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionsConfig {
    pub queue: usize,
    pub every: HumanDuration,
    pub retention: HumanDuration,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    pub queue: usize,
    pub posteriors_every: HumanDuration,
    pub heartbeat: HumanDuration,
    pub states_per_second: usize,
    pub rebuilds: usize,
    pub rebuild_every: HumanDuration,
}

impl OriginConfig {
    /// What a type cannot say.
    pub fn check(&self, problems: &mut Problems) {
        self.engines.check(problems);
        for (name, value) in
            [("candidates", self.candidates), ("own_items", self.own_items), ("cohort_items", self.cohort_items)]
        {
            problems.check((1..=5_000).contains(&value), name, "must be from 1 to 5000");
        }
        for (name, value) in [
            ("decisions.queue", self.decisions.queue),
            ("watch.queue", self.watch.queue),
            ("watch.states_per_second", self.watch.states_per_second),
            ("watch.rebuilds", self.watch.rebuilds),
        ] {
            problems.check(value > 0, name, "must be at least 1");
        }
    }
}
