//! What is remembered of decisions on their way to the log and just written: bounded, and only ever a saving.
//!
//! Two generations each: when the young one is full, it becomes the old one, and the one before it is forgotten.

use attune_domain::{ItemIx, RequestId};
use attune_storage::ObjectHash;
use rustc_hash::{FxHashMap, FxHashSet};

/// Decisions in a generation, and the items of all of them together.
const DECISIONS: usize = 100_000;
const ITEMS: usize = 32 * DECISIONS;
/// Object names in a generation.
const OBJECTS: usize = 100_000;

/// Items of recent decisions.
#[derive(Default)]
pub(crate) struct RecentDecisions {
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    /// Where a decision's items are in `items`.
    places: FxHashMap<RequestId, (u32, u32)>,
    items: Vec<u32>,
}

impl RecentDecisions {
    /// `write` appends a decision's items and says whose they are; nothing is kept where it does not.
    pub(crate) fn insert<T>(
        &mut self,
        write: impl FnOnce(&mut Vec<u32>) -> Option<(RequestId, T)>,
    ) -> Option<(RequestId, T)> {
        if self.young.places.len() >= DECISIONS || self.young.items.len() >= ITEMS {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.places.clear();
            self.young.items.clear();
        }
        let Generation { places, items } = &mut self.young;
        let start = items.len();
        let written = write(items);
        match &written {
            Some((id, _)) => drop(places.insert(*id, (start as u32, items.len() as u32))),
            None => items.truncate(start),
        }
        written
    }

    pub(crate) fn items(&self, id: RequestId) -> Option<&[u32]> {
        [&self.young, &self.old].into_iter().find_map(|generation| {
            let &(start, end) = generation.places.get(&id)?;
            generation.items.get(start as usize..end as usize)
        })
    }

    /// Whether the item was in that decision, where it is known.
    pub(crate) fn holds(&self, id: RequestId, item: ItemIx) -> Option<bool> {
        self.items(id).map(|items| items.contains(&item.0))
    }
}

/// Names of objects that are stored.
#[derive(Default)]
pub(crate) struct StoredObjects {
    young: FxHashSet<ObjectHash>,
    old: FxHashSet<ObjectHash>,
}

impl StoredObjects {
    pub(crate) fn contains(&self, hash: &ObjectHash) -> bool {
        self.young.contains(hash) || self.old.contains(hash)
    }

    pub(crate) fn extend(&mut self, hashes: impl IntoIterator<Item = ObjectHash>) {
        self.young.extend(hashes);
        if self.young.len() >= OBJECTS {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> RequestId {
        RequestId::new(n.into(), [0; 10])
    }

    #[test]
    fn the_last_generation_at_least_is_known() {
        let mut recent = RecentDecisions::default();
        let last = 3 * DECISIONS as u32 + 7;
        for n in 0..=last {
            recent.insert(|items| {
                items.extend([n, n + 1]);
                (n % 10 != 3).then_some((id(n), ()))
            });
        }
        assert_eq!(recent.holds(id(last), ItemIx(last + 1)), Some(true));
        assert_eq!(recent.holds(id(last), ItemIx(last - 1)), Some(false));
        assert_eq!(
            recent.items(id(last - DECISIONS as u32 + 2)),
            Some(&[last + 2 - DECISIONS as u32, last + 3 - DECISIONS as u32][..])
        );
        assert_eq!(recent.items(id(13)), None);
        assert_eq!(recent.items(id(0)), None);
        assert!(recent.young.places.len() <= DECISIONS && recent.old.places.len() <= DECISIONS);
    }
}
