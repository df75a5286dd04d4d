//! Windows, bounds and baselines.

use crate::window::Window;
use attune_domain::UnixMillis;
use serde::{Deserialize, Serialize};

/// Window of each family of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// CTR, conversion, engagement, revenue, lift.
    pub effect: Window,
    /// Diversity, novelty, freshness, serendipity.
    pub content: Window,
    /// Catalogue coverage, Gini, coverage of cold items. The last is defined over a day.
    pub items: Window,
    /// Regret, exploration.
    pub bandit: Window,
    /// Calibration, confidence, NDCG.
    pub model: Window,
    /// The examination curve: longer, because only one slot in fifty tells of it.
    pub examination: Window,
    pub recall: Window,
    pub features: Window,
    pub embedding: Window,
    /// Active visitors.
    pub active: Window,
    /// A step of return rate: visitors of one step who come again within the next 7.
    pub day_ms: i64,
}

impl Default for Windows {
    fn default() -> Self {
        let hour = Window::minutes(5, 12);
        Self {
            effect: hour,
            content: hour,
            items: Window::minutes(60, 24),
            bandit: Window::minutes(5, 72),
            model: hour,
            examination: Window::minutes(60, 24),
            recall: Window::minutes(30, 12),
            features: hour,
            embedding: hour,
            active: Window::minutes(60, 24),
            day_ms: 86_400_000,
        }
    }
}

/// Days in which a visitor may come again.
pub(crate) const RETURN_DAYS: u32 = 7;

impl Windows {
    /// The day whose visitors are followed, the days after it, and the one under way.
    pub(crate) fn days(&self) -> Window {
        Window { step_ms: self.day_ms, steps: RETURN_DAYS + 2 }
    }
}

/// What a feature looked like in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureBaseline {
    pub name: String,
    /// Inner bounds, ascending: bin i is `bounds[i-1] <= x < bounds[i]`.
    pub bounds: Vec<f32>,
    /// Share of each bin; one more than bounds. Training makes 20 of about equal mass.
    pub shares: Vec<f64>,
}

impl FeatureBaseline {
    pub(crate) fn bin(&self, value: f32) -> usize {
        self.bounds.partition_point(|&bound| bound <= value)
    }
}

/// What drift is measured against; belongs to a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    pub features: Vec<FeatureBaseline>,
    /// Mean embedding. Empty: there is no drift to tell.
    pub embedding: Vec<f32>,
}

const MOST_FEATURES: usize = 1_024;
const MOST_BINS: usize = 256;
const MOST_DIMENSIONS: usize = 4_096;

impl Baselines {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.features.len() > MOST_FEATURES || self.embedding.len() > MOST_DIMENSIONS {
            return Err(ConfigError::Size);
        }
        for feature in &self.features {
            let bounds = &feature.bounds;
            let sound = bounds.len() < MOST_BINS
                && feature.shares.len() == bounds.len() + 1
                && bounds.windows(2).all(|pair| pair[0] < pair[1])
                && bounds.iter().all(|bound| bound.is_finite())
                && feature.shares.iter().all(|share| (0.0..=1.0).contains(share))
                && (feature.shares.iter().sum::<f64>() - 1.0).abs() < 1e-3;
            if !sound {
                return Err(ConfigError::Feature(feature.name.clone()));
            }
        }
        Ok(())
    }

    pub(crate) fn digest(&self) -> u64 {
        postcard::to_allocvec(self).map_or(0, |bytes| xxhash_rust::xxh3::xxh3_64(&bytes))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub windows: Windows,
    /// How long after a decision its impressions and outcomes count.
    pub join_ms: i64,
    /// Impressions and outcomes held for the join; the oldest give way.
    pub join_entries: usize,
    /// Items with higher numbers are not counted apart.
    pub items: u32,
    /// Rate at which the seen filter calls an unseen item seen; 0 where it is exact.
    pub seen_false_positives: f64,
    pub baselines: Baselines,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            windows: Windows::default(),
            join_ms: 30 * 60_000,
            join_entries: 1 << 18,
            items: 1 << 20,
            seen_false_positives: 0.0,
            baselines: Baselines::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("windows need a step above 0 and 1 to 10000 steps")]
    Window,
    #[error("join_ms and join_entries must be above 0, seen_false_positives between 0 and 1")]
    Bound,
    #[error("at most {MOST_FEATURES} features and {MOST_DIMENSIONS} dimensions")]
    Size,
    #[error("baseline of feature {0:?}: bounds must ascend, shares must be one more and sum to 1")]
    Feature(String),
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let w = &self.windows;
        let all = [
            w.effect,
            w.content,
            w.items,
            w.bandit,
            w.model,
            w.examination,
            w.recall,
            w.features,
            w.embedding,
            w.active,
            w.days(),
        ];
        if !all.into_iter().all(Window::is_valid) {
            return Err(ConfigError::Window);
        }
        if self.join_ms <= 0 || self.join_entries == 0 || !(0.0..1.0).contains(&self.seen_false_positives) {
            return Err(ConfigError::Bound);
        }
        self.baselines.check()
    }

    pub(crate) fn is_late(&self, decided_at: UnixMillis, now: UnixMillis) -> bool {
        decided_at.saturating_add(self.join_ms) <= now
    }
}
