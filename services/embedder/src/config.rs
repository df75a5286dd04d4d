//! Settings of the embedder; `config.toml` explains each.

use attune_config::{HumanDuration, Problems};
use attune_runtime::ProcessConfig;
use attune_storage::{Clock, EnginesConfig, FeatureOptions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file that is both default and manual.
pub const DEFAULTS: &str = include_str!("../config.toml");

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedderConfig {
    pub half_life: HumanDuration,
    pub batch_records: usize,
    pub poll_wait: HumanDuration,
    pub outcome_window: HumanDuration,
    pub checkpoint_every: HumanDuration,
    pub retry_first: HumanDuration,
    pub retry_longest: HumanDuration,
    pub insight: InsightConfig,
    pub own: OwnConfig,
    pub engines: EnginesConfig,
    pub process: ProcessConfig,
}

/// Settings of the metrics that are computed from the stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InsightConfig {
    pub folder: PathBuf,
    pub every: HumanDuration,
    pub checkpoint_every: HumanDuration,
    pub lateness: HumanDuration,
    pub sample_one_in: u64,
    pub seen_pairs: usize,
}

impl Default for InsightConfig {
    /// The values of the default file.
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            every: HumanDuration::secs(5),
            checkpoint_every: HumanDuration::secs(10),
            lateness: HumanDuration::secs(5),
            sample_one_in: 8,
            seen_pairs: 1 << 19,
        }
    }
}

impl InsightConfig {
    fn check(&self, problems: &mut Problems) {
        for (key, value) in [("insight.every", self.every), ("insight.checkpoint_every", self.checkpoint_every)] {
            problems.check(!value.get().is_zero(), key, "must not be zero");
        }
        problems.check(self.lateness.get() <= HumanDuration::secs(300).get(), "insight.lateness", "must be at most 5m");
        problems.check(self.sample_one_in > 0, "insight.sample_one_in", "must not be zero");
        let pairs = 1..=1 << 26;
        problems.check(pairs.contains(&self.seen_pairs), "insight.seen_pairs", "must be 1 to 67108864");
    }
}

/// Where a process of its own finds what `attune up` would hand it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnConfig {
    pub state: String,
    pub checkpoints: PathBuf,
    pub event_log: String,
    pub bundle: PathBuf,
    pub origin: String,
    pub timeout: HumanDuration,
}

impl Default for EmbedderConfig {
    /// The values of the default file, without a place of its own.
    fn default() -> Self {
        Self {
            half_life: HumanDuration::secs(14 * 86_400),
            batch_records: 2_048,
            poll_wait: HumanDuration::secs(1),
            outcome_window: HumanDuration::secs(30 * 86_400),
            checkpoint_every: HumanDuration::secs(300),
            retry_first: HumanDuration::millis(100),
            retry_longest: HumanDuration::secs(5),
            insight: InsightConfig::default(),
            own: OwnConfig::default(),
            engines: EnginesConfig::default(),
            process: ProcessConfig::default(),
        }
    }
}

impl EmbedderConfig {
    /// What a type cannot say.
    pub fn check(&self, problems: &mut Problems) {
        self.engines.check(problems);
        self.insight.check(problems);
        let second = HumanDuration::secs(1).get();
        problems.check(self.half_life.get() >= second, "half_life", "must be at least a second");
        problems.check((1..=8_192).contains(&self.batch_records), "batch_records", "must be 1 to 8192");
        problems.check(!self.poll_wait.get().is_zero(), "poll_wait", "must not be zero");
        problems.check(self.poll_wait.get() <= 60 * second, "poll_wait", "must be at most a minute");
        problems.check(self.outcome_window.get() >= second, "outcome_window", "must be at least a second");
        let often = self.checkpoint_every.get() >= HumanDuration::millis(100).get();
        problems.check(often, "checkpoint_every", "must be at least 100ms");
        problems.check(!self.retry_first.get().is_zero(), "retry_first", "must not be zero");
        let ordered = self.retry_longest.get() >= self.retry_first.get();
        problems.check(ordered, "retry_longest", "must not be below retry_first");
    }

    /// Folder of the feature store's checkpoints, where some are kept.
    pub fn checkpoints(&self) -> Option<&Path> {
        Some(self.own.checkpoints.as_path()).filter(|folder| !folder.as_os_str().is_empty())
    }

    /// How the feature store that this service owns is to be opened.
    pub fn feature_options(&self, clock: Clock) -> FeatureOptions {
        FeatureOptions::hourly(self.half_life.get(), clock)
    }
}
