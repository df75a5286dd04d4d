//! The degradation ladder and the other closed lists an answer is labelled with.

use crate::context::closed_list;

/// What was really served. Higher is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Personalized and fresh.
    Fresh = 0,
    /// Personalized on a stale candidate set or a stale user state.
    Stale = 1,
    /// Personalized without the ranking model.
    Unranked = 2,
    /// Favourites of the visitor's cohort.
    CohortFavourites = 3,
    /// Favourites of everybody.
    GlobalFavourites = 4,
    /// The list compiled into the bundle.
    Static = 5,
}

impl Level {
    pub const ALL: [Self; 6] =
        [Self::Fresh, Self::Stale, Self::Unranked, Self::CohortFavourites, Self::GlobalFavourites, Self::Static];

    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }
}

closed_list! {
    /// Why an answer is above level 0, or what was missing although the level is 0.
    LevelReason {
        StateBehind = "state_behind", CandidatesStale = "candidates_stale", OriginUnavailable = "origin_unavailable",
        OriginTimeout = "origin_timeout", RetrievalUnavailable = "retrieval_unavailable",
        RetrievalPartial = "retrieval_partial", RankingUnavailable = "ranking_unavailable",
        BanditUnavailable = "bandit_unavailable", StateUnavailable = "state_unavailable",
        ExplanationUnavailable = "explanation_unavailable", Overload = "overload", BaselineHoldout = "baseline_holdout",
        NoCandidates = "no_candidates",
    }
}

closed_list! {
    /// The deepest tier that worked on the answer.
    Tier { Edge = "edge", Origin = "origin", Llm = "llm" }
}

closed_list! {
    /// The assignment that the answer counts for, whatever was served.
    Source { Personalized = "personalized", Baseline = "baseline" }
}

closed_list! {
    /// Arm of the running experiment; the permanent holdout is `holdout`.
    Variant { Treatment = "treatment", Holdout = "holdout" }
}

closed_list! {
    CacheStatus { Hit = "hit", Miss = "miss" }
}

closed_list! {
    /// Why an item is in an answer: the strongest factor that the scorer really used, or where the item came from.
    Reason {
        SimilarToRecent = "similar_to_recent", TasteMatch = "taste_match", FavouriteCategory = "favourite_category",
        Popular = "popular", Trending = "trending", Fresh = "fresh", CohortFavourite = "cohort_favourite",
        Exploration = "exploration", RelatedItem = "related_item", SearchMatch = "search_match",
        Favourite = "favourite",
    }
}
