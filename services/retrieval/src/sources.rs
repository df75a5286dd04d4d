//! Where candidates come from. A source knows items and vectors and what was asked, never who asks.

mod lists;
mod vectors;
mod words;

pub use lists::{CohortFavourites, Fresh, TrendingNow};
pub use vectors::{Neighbours, Related, SimilarToRecent, neighbours_of};
pub use words::Search;

use crate::index::{Generation, SearchError};
use crate::view::View;
use attune_decision::SourceKind;
use attune_domain::ItemIx;
use std::sync::Arc;

/// What a request wants candidates for. Valid: the vector has the model's dimension and is finite, items and cluster
/// exist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ask {
    /// Empty: no vector sources.
    pub user_vector: Vec<f32>,
    /// Newest first.
    pub recent: Vec<ItemIx>,
    pub cluster: u16,
    /// The product page's item.
    pub item: Option<ItemIx>,
    /// The search page's text; empty on other pages.
    pub query: String,
    /// Most candidates a source may give.
    pub limit: usize,
}

/// What a source looks at, the same for all sources of a request.
pub struct Look<'a> {
    pub ask: &'a Ask,
    pub view: &'a View,
    pub generation: &'a Generation,
    pub trending: &'a [ItemIx],
    /// Asked now and then; once true nobody waits for the answer any more.
    pub late: &'a dyn Fn() -> bool,
}

impl Look<'_> {
    fn is_available(&self, item: ItemIx) -> bool {
        self.view.serving.is_available(item)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("source ran past its deadline")]
    Late,
    #[error("source failed: {0}")]
    Failed(&'static str),
}

impl From<SearchError> for SourceError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Late => Self::Late,
            SearchError::Dimension { .. } => Self::Failed("dimension"),
        }
    }
}

/// Where a source may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Copies a list: on the caller's thread.
    Light,
    /// Computes: on a thread that may be busy for a while.
    Heavy,
}

/// One way of finding candidates.
pub trait CandidateSource: Send + Sync {
    fn kind(&self) -> SourceKind;

    fn work(&self) -> Work;

    /// Whether it asks the vector index, and so counts as a query of it.
    fn searches_index(&self) -> bool {
        false
    }

    /// Whether the request gives this source anything to go by.
    fn is_asked(&self, ask: &Ask) -> bool;

    /// Up to `limit` items, best first, available ones only. A function of what it looks at.
    fn find(&self, look: &Look<'_>) -> Result<Vec<ItemIx>, SourceError>;
}

/// All sources, in the order of their codes.
pub fn all() -> Vec<Arc<dyn CandidateSource>> {
    vec![
        Arc::new(Neighbours),
        Arc::new(SimilarToRecent),
        Arc::new(TrendingNow),
        Arc::new(Fresh),
        Arc::new(CohortFavourites),
        Arc::new(Related),
        Arc::new(Search),
    ]
}
