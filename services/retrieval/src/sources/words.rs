//! The source that reads what the visitor typed.

use super::{Ask, CandidateSource, Look, SourceError, Work};
use attune_decision::SourceKind;
use attune_domain::ItemIx;

/// Items by the words of a query; among equal matches, what the model expects to be clicked.
pub struct Search;

impl CandidateSource for Search {
    fn kind(&self) -> SourceKind {
        SourceKind::Search
    }

    fn work(&self) -> Work {
        Work::Heavy
    }

    fn is_asked(&self, ask: &Ask) -> bool {
        !ask.query.is_empty()
    }

    fn find(&self, look: &Look<'_>) -> Result<Vec<ItemIx>, SourceError> {
        let boosts = look.view.serving.items.base_rates();
        let mut found = look.view.text.search(&look.ask.query, boosts, usize::MAX);
        found.retain(|item| look.is_available(*item));
        found.truncate(look.ask.limit);
        Ok(found)
    }
}
