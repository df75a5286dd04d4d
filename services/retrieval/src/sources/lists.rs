//! Sources that read a list made beforehand.

use super::{Ask, CandidateSource, Look, SourceError, Work};
use attune_decision::SourceKind;
use attune_domain::ItemIx;

/// What visitors act on now; before any live event, what everybody liked when the model was trained.
pub struct TrendingNow;

impl CandidateSource for TrendingNow {
    fn kind(&self) -> SourceKind {
        SourceKind::Trending
    }

    fn work(&self) -> Work {
        Work::Light
    }

    fn is_asked(&self, _: &Ask) -> bool {
        true
    }

    fn find(&self, look: &Look<'_>) -> Result<Vec<ItemIx>, SourceError> {
        let favourites = look.view.serving.bundle.cohorts().global_favourites();
        let list = if look.trending.is_empty() { favourites } else { look.trending };
        Ok(available(look, list))
    }
}

/// What is new in the catalogue.
pub struct Fresh;

impl CandidateSource for Fresh {
    fn kind(&self) -> SourceKind {
        SourceKind::Fresh
    }

    fn work(&self) -> Work {
        Work::Light
    }

    fn is_asked(&self, _: &Ask) -> bool {
        true
    }

    fn find(&self, look: &Look<'_>) -> Result<Vec<ItemIx>, SourceError> {
        Ok(available(look, &look.view.fresh))
    }
}

/// What visitors of the same taste liked when the model was trained.
pub struct CohortFavourites;

impl CandidateSource for CohortFavourites {
    fn kind(&self) -> SourceKind {
        SourceKind::CohortFavourites
    }

    fn work(&self) -> Work {
        Work::Light
    }

    fn is_asked(&self, _: &Ask) -> bool {
        true
    }

    fn find(&self, look: &Look<'_>) -> Result<Vec<ItemIx>, SourceError> {
        Ok(available(look, look.view.serving.bundle.cohorts().favourites(look.ask.cluster)))
    }
}

fn available(look: &Look<'_>, list: &[ItemIx]) -> Vec<ItemIx> {
    list.iter().copied().filter(|item| look.is_available(*item)).take(look.ask.limit).collect()
}
