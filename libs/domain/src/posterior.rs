//! Evidence about items, from the decisions they were in.

use crate::ItemIx;

/// Forward-decayed sufficient statistics of one item: weighted impressions, and the weighted rewards among them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PosteriorCounts {
    pub item: ItemIx,
    pub impressions: f32,
    pub rewards: f32,
}

/// Counts of every item that has any, sorted by item.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PosteriorSnapshot {
    pub counts: Vec<PosteriorCounts>,
}
