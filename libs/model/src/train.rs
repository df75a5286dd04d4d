//! Training: a data set to a bundle. Deterministic for a seed.

use crate::bundle::{Bundle, BundleError};
use crate::progress::Progress;
use attune_dataset::Dataset;
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("config {field}: {reason}")]
    Config { field: &'static str, reason: String },
    #[error("the data cannot be trained on: {0}")]
    Data(String),
    #[error("training failed: {0}")]
    Tensor(#[from] candle_core::Error),
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// What a training run may be told. Part of the manifest, so of the version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    pub seed: u64,
    /// Stands in the manifest; the clock is not read.
    pub created_at: i64,
    /// Of user and item vectors, the two fixed coordinates included; a multiple of 16.
    pub dim: usize,
    /// Passes of the two towers over all but each visitor's newest events.
    pub tower_epochs: usize,
    /// Passes over everything, after the ranker has learnt from the newest events.
    pub final_epochs: usize,
    pub ranker_epochs: usize,
    /// Next-item examples a pass takes at most.
    pub examples_per_epoch: usize,
    /// Rows the ranker learns from at most.
    pub ranker_rows: usize,
    pub batch: usize,
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Share of window events left out at random.
    pub dropout: f32,
    /// Events after which an event's weight has fallen to 1/e.
    pub recency_events: f32,
    /// Ridge penalty of the factorisation the towers start from.
    pub ridge: f64,
    /// Taste clusters, the one for visitors without events included.
    pub clusters: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            created_at: 0,
            dim: 128,
            tower_epochs: 3,
            final_epochs: 1,
            ranker_epochs: 3,
            examples_per_epoch: 200_000,
            ranker_rows: 300_000,
            batch: 256,
            learning_rate: 2e-3,
            weight_decay: 1e-4,
            dropout: 0.2,
            recency_events: 10.0,
            ridge: 200.0,
            clusters: 32,
        }
    }
}

pub fn train(data: &Dataset, config: &TrainConfig, progress: &dyn Progress) -> Result<Bundle, TrainError> {
    let _ = (config, progress);
    Err(TrainError::Data(format!("{} has nothing to learn from", data.name)))
}
