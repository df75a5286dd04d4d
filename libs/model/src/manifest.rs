//! What a bundle says about itself.

use crate::schema::FeatureSchema;
use crate::train::TrainConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The only layout this build reads and writes.
pub(crate) const FORMAT: u32 = 1;

/// The bundle's table of contents. Its hash is the model version, so everything here is part of the version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Given to the training, not read from a clock.
    pub created_at: i64,
    /// Name of the training data.
    pub data: String,
    /// BLAKE3 over the items' content and the events.
    pub data_hash: String,
    /// Version of the crate that trained it.
    pub code_version: String,
    pub config: TrainConfig,
    /// Of user and item vectors, the fixed coordinates included.
    pub dim: usize,
    pub trained_items: usize,
    pub catalogue_hash: String,
    pub schema: FeatureSchema,
    pub heads: Vec<Head>,
    pub edge: EdgeScorer,
    /// Mean of the training visitors' vectors, without context and fixed coordinates: what drift of embeddings is
    /// measured against. Empty in bundles from before it was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean_vector: Vec<f32>,
    /// By name, such as `validation.recall_at_100`. A metric without samples is absent.
    pub metrics: BTreeMap<String, Metric>,
    pub sections: BTreeMap<String, Section>,
}

impl Manifest {
    pub fn head(&self, name: &str) -> Option<&Head> {
        self.heads.iter().find(|head| head.name == name)
    }
}

/// An output of the ranker. A head that no data trained is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `click`, `conversion` or `dwell`.
    pub name: String,
    /// In words, such as `logged impressions`.
    pub trained_on: String,
    pub rows: u64,
    /// The output is a probability in the first slot, not only an order. Claimed only where impressions were logged
    /// and those in the first slot that were kept back say so.
    pub calibrated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub value: f64,
    pub samples: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// BLAKE3 of the file, hexadecimal.
    pub hash: String,
    pub bytes: u64,
}

/// The ranker's click logit is about `intercept + slope * dot(user, item)`: what a place without the ranker scores by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EdgeScorer {
    pub intercept: f32,
    pub slope: f32,
}

impl EdgeScorer {
    /// Click probability from the dot product of a user and an item vector.
    pub fn probability(&self, dot: f32) -> f32 {
        attune_inference::sigmoid(self.intercept + self.slope * dot)
    }
}
