//! Several ranked lists into one, deterministically.

use attune_domain::ItemIx;
use std::collections::{HashMap, HashSet};

/// Where candidates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SourceKind {
    Neighbours = 0,
    SimilarToRecent = 1,
    Trending = 2,
    Fresh = 3,
    CohortFavourites = 4,
    Related = 5,
    Search = 6,
}

impl SourceKind {
    pub const ALL: [Self; 7] = [
        Self::Neighbours,
        Self::SimilarToRecent,
        Self::Trending,
        Self::Fresh,
        Self::CohortFavourites,
        Self::Related,
        Self::Search,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Neighbours => "neighbours",
            Self::SimilarToRecent => "similar_to_recent",
            Self::Trending => "trending",
            Self::Fresh => "fresh",
            Self::CohortFavourites => "cohort_favourites",
            Self::Related => "related",
            Self::Search => "search",
        }
    }

    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }

    /// Candidates a source may put forward for each one that `trending` may.
    const fn weight(self) -> usize {
        match self {
            Self::Neighbours => 6,
            Self::Related | Self::Search => 8,
            Self::SimilarToRecent => 3,
            Self::Trending | Self::CohortFavourites => 1,
            Self::Fresh => 1,
        }
    }
}

/// What became of a source in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    Ok = 0,
    Late = 1,
    Failed = 2,
    NotAsked = 3,
}

impl Outcome {
    pub const fn code(self) -> u8 {
        self as u8
    }

    pub fn from_code(code: u32) -> Option<Self> {
        [Self::Ok, Self::Late, Self::Failed, Self::NotAsked].get(code as usize).copied()
    }
}

/// A source's answer, best first. Items of a source that is not [`Outcome::Ok`] do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceItems {
    pub source: SourceKind,
    pub outcome: Outcome,
    pub items: Vec<ItemIx>,
}

/// Takes from the sources in rounds, each as many as its weight says, until `limit` distinct items are there.
/// Gives each item with the source of the lowest code that named it. Sources are visited in the order of their codes.
pub fn merge(sources: &[SourceItems], limit: usize) -> Vec<(ItemIx, SourceKind)> {
    let mut active: Vec<_> = sources.iter().filter(|s| s.outcome == Outcome::Ok).collect();
    active.sort_by_key(|s| s.source);
    let mut lists: Vec<_> = active.iter().map(|s| (s.source, s.items.iter())).collect();
    let mut named_by = HashMap::with_capacity(4 * limit);
    for source in &active {
        source.items.iter().for_each(|&item| {
            named_by.entry(item).or_insert(source.source);
        });
    }
    let mut taken = HashSet::with_capacity(limit);
    let mut merged = Vec::with_capacity(limit);
    while !lists.is_empty() && merged.len() < limit {
        lists.retain_mut(|(source, items)| {
            for _ in 0..source.weight() {
                let Some(&item) = items.by_ref().find(|item| !taken.contains(*item)) else { return false };
                if merged.len() == limit {
                    return false;
                }
                taken.insert(item);
                merged.push((item, named_by.get(&item).copied().unwrap_or(*source)));
            }
            true
        });
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(source: SourceKind, outcome: Outcome, items: impl IntoIterator<Item = u32>) -> SourceItems {
        SourceItems { source, outcome, items: items.into_iter().map(ItemIx).collect() }
    }

    #[test]
    fn every_working_source_is_heard_and_no_item_twice() {
        let lists = [
            source(SourceKind::Trending, Outcome::Ok, [1, 900, 901]),
            source(SourceKind::Neighbours, Outcome::Ok, 0..400),
            source(SourceKind::Fresh, Outcome::Late, 500..600),
        ];
        let merged = merge(&lists, 100);
        assert_eq!(merged.len(), 100);
        let distinct: HashSet<_> = merged.iter().map(|m| m.0).collect();
        assert_eq!(distinct.len(), 100);
        assert!(merged.contains(&(ItemIx(900), SourceKind::Trending)));
        assert!(!merged.iter().any(|m| m.1 == SourceKind::Fresh));
        assert_eq!(merged, merge(&[lists[1].clone(), lists[0].clone()], 100), "order of arrival does not matter");
        assert!(merge(&[], 10).is_empty());
    }
}
