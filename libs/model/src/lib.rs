//! The models: feature schema, two towers, ranker, cohorts, training, the bundle format and evaluation.
//!
//! Always holds:
//! - every score is a pure function of (bundle, catalogue content, user window and attributes, context, now); nothing
//!   here reads a clock or a global generator;
//! - an item's scores never depend on the other items of its batch, on the batch size or on the instruction set;
//! - the user vector is a function of the window, so a new visitor or a new event needs no training;
//! - an item the bundle never saw has a row all the same, made from its content;
//! - a bundle is immutable, its version is a hash of everything in it, and a damaged section is named.

mod attribution;
mod bundle;
mod cohorts;
mod content;
pub mod evaluation;
mod features;
mod histogram;
mod items;
mod manifest;
mod progress;
mod rank;
mod ranker;
mod schema;
mod sections;
mod tower;
mod train;

pub use attribution::{Contribution, FeatureGroup};
pub use bundle::{Bundle, BundleError};
pub use cohorts::Cohorts;
pub use histogram::{Histogram, Histograms};
pub use items::ItemTable;
pub use manifest::{EdgeScorer, Head, Manifest, Metric, Section};
pub use progress::{Bar, Progress, Quiet};
pub use rank::{Scores, feature_names};
pub use schema::{Column, ColumnKind, FeatureSchema, Presence};
pub use tower::UserInput;
pub use train::{TrainConfig, TrainError, train};

/// Coordinates of a vector that are not latent: the last is the bias (user side 1), the one before it is 1 for a
/// visitor without events, where item rows hold what popularity alone says.
pub const FIXED_COORDINATES: usize = 2;
