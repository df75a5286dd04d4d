//! Configuration; the defaults and their meaning are in `config.toml`.

use crate::index::{GraphParams, IndexConfig};
use attune_config::{HumanDuration, Problems};
use attune_decision::SourceKind;
use attune_runtime::ProcessConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

pub const DEFAULTS: &str = include_str!("../config.toml");

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RetrievalConfig {
    pub max_candidates: usize,
    pub max_query: usize,
    pub threads: usize,
    pub deadlines: Deadlines,
    pub index: IndexSection,
    pub trending: TrendingSection,
    pub shadow: ShadowSection,
    pub own: OwnConfig,
    pub process: ProcessConfig,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    pub neighbours: HumanDuration,
    pub similar_to_recent: HumanDuration,
    pub trending: HumanDuration,
    pub fresh: HumanDuration,
    pub cohort_favourites: HumanDuration,
    pub related: HumanDuration,
    pub search: HumanDuration,
}

impl Deadlines {
    pub fn of(&self, source: SourceKind) -> Duration {
        match source {
            SourceKind::Neighbours => self.neighbours.0,
            SourceKind::SimilarToRecent => self.similar_to_recent.0,
            SourceKind::Trending => self.trending.0,
            SourceKind::Fresh => self.fresh.0,
            SourceKind::CohortFavourites => self.cohort_favourites.0,
            SourceKind::Related => self.related.0,
            SourceKind::Search => self.search.0,
        }
    }
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IndexSection {
    pub links: usize,
    pub ef_construction: usize,
    pub ef: usize,
    pub exact_below: usize,
    pub scan_below_share: f32,
    pub seal_at: usize,
    pub buffer_max: usize,
    pub snapshots: PathBuf,
}

/// Queries that are repeated exactly.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowSection {
    pub share: f64,
    pub at_least_every: HumanDuration,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrendingSection {
    pub half_life: HumanDuration,
    pub max_items: usize,
    pub replay: u64,
}

/// Where a process of its own finds what `attune up` would hand it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnConfig {
    pub bundle: PathBuf,
    pub origin: String,
    pub timeout: HumanDuration,
    pub patience: HumanDuration,
}

impl RetrievalConfig {
    pub fn validate(&self, problems: &mut Problems) {
        problems.check(!self.own.timeout.0.is_zero(), "own.timeout", "must be positive");
        problems.check((0.0..=1.0).contains(&self.shadow.share), "shadow.share", "must be 0 to 1");
        let at_least = self.shadow.at_least_every.0;
        problems.check(!at_least.is_zero(), "shadow.at_least_every", "must be positive");
        problems.check((1..=10_000).contains(&self.max_candidates), "max_candidates", "must be 1 to 10000");
        problems.check((1..=65_536).contains(&self.max_query), "max_query", "must be 1 to 65536");
        problems.check(self.threads <= 1024, "threads", "must be at most 1024");
        let index = &self.index;
        problems.check((2..=128).contains(&index.links), "index.links", "must be 2 to 128");
        problems.check((8..=4096).contains(&index.ef_construction), "index.ef_construction", "must be 8 to 4096");
        problems.check((1..=100_000).contains(&index.ef), "index.ef", "must be 1 to 100000");
        problems.check((0.0..=1.0).contains(&index.scan_below_share), "index.scan_below_share", "must be 0 to 1");
        problems.check(index.seal_at > 0, "index.seal_at", "must be positive");
        problems.check(index.buffer_max >= index.seal_at, "index.buffer_max", "must be at least index.seal_at");
        problems.check(!self.trending.half_life.0.is_zero(), "trending.half_life", "must be positive");
        problems.check(self.trending.max_items > 0, "trending.max_items", "must be positive");
        for source in SourceKind::ALL {
            let positive = !self.deadlines.of(source).is_zero();
            problems.check(positive, &format!("deadlines.{}", source.as_str()), "must be positive");
        }
    }

    pub fn index(&self) -> IndexConfig {
        let section = &self.index;
        IndexConfig {
            graph: GraphParams {
                links: section.links,
                ef_construction: section.ef_construction,
                exact_below: section.exact_below,
            },
            ef: section.ef,
            scan_below_share: section.scan_below_share,
            seal_at: section.seal_at,
            buffer_max: section.buffer_max,
        }
    }

    /// Where snapshots are kept, if anywhere.
    pub fn snapshots(&self) -> Option<PathBuf> {
        Some(self.index.snapshots.clone()).filter(|folder| !folder.as_os_str().is_empty())
    }
}
