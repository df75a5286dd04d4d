//! Estimators of the stream processor `insight`: every business, content, embedding, bandit and model metric, computed
//! from impressions, outcomes and what serving observed.
//!
//! [`Insight`] takes observations one at a time and gives a [`Report`] of [`Estimate`]s, each with its 95 % interval and
//! the number of observations behind it.
//!
//! Always holds:
//! - State is sketches per sub-window of a sliding window, all integers inside. The same observations give the same
//!   state bit for bit however they were batched, and the states of partitions by visitor merge into the state of the
//!   whole.
//! - An impression or outcome counts once, at the time of its decision, and within the join window of it.
//! - Memory is bounded whatever arrives. At the default windows, at worst: 31 MB of sketches (usually under 10), 16 B a
//!   distinct item and hour of the day that coverage looks at, and 60 MB for the join at its bound of 262 144 entries.
//!   Each sketch states its own; [`Insight::size_bytes`] tells what it is now.
//! - No clock, no chance, no I/O: the stream's time is an argument ([`Insight::advance`]).
//!
//! Leaves to others: reading the log, looking up decisions, exporting, and deciding how many samples are enough (the
//! catalogue does). Estimators are those of `research/observability.md`, section 8.

mod checkpoint;
mod config;
mod estimate;
mod event;
mod insight;
mod join;
mod report;
mod sketch;
mod totals;
mod window;

pub use checkpoint::CheckpointError;
pub use config::{Baselines, Config, ConfigError, FeatureBaseline, Windows};
pub use estimate::Estimate;
pub use event::{
    CatalogueItem, Decided, EmbeddingRead, FeatureValue, Impression, Outcome, OutcomeKind, Posterior, RecallAt,
    ShadowSearch, SlotKind, Surroundings,
};
pub use insight::Insight;
pub use join::JoinCounts;
pub use report::{
    BanditReport, ContentReport, EmbeddingReport, ExplorationReport, FeatureReport, JoinReport, ModelReport, Report,
    SourceReport,
};
pub use totals::{SourceTotals, Totals};
pub use window::Window;
