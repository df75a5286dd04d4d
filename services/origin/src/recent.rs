//! What is remembered of decisions on their way to the log and just written: bounded, and only ever a saving.
//!
//! Two generations each: when the young one is full, it becomes the old one, and the one before it is forgotten.

use attune_domain::{ItemIx, RequestId};
use attune_storage::ObjectHash;
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;

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

/// Decisions are found by the time in their ids, so that one more of them is written where the last one was.
#[derive(Default)]
struct Generation {
    slots: BTreeMap<u64, Vec<Place>>,
    decisions: usize,
    items: Vec<u32>,
}

/// Where a decision's items are in `items`.
struct Place {
    id: RequestId,
    start: u32,
    end: u32,
}

impl Generation {
    fn is_full(&self) -> bool {
        self.decisions >= DECISIONS || self.items.len() >= ITEMS
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.decisions = 0;
        self.items.clear();
    }

    /// What was said of a decision last.
    fn items(&self, id: RequestId) -> Option<&[u32]> {
        let place = self.slots.get(&slot_of(id))?.iter().rev().find(|place| place.id == id)?;
        self.items.get(place.start as usize..place.end as usize)
    }
}

/// Eight milliseconds.
fn slot_of(id: RequestId) -> u64 {
    id.unix_millis() as u64 >> 3
}

impl RecentDecisions {
    /// `write` appends a decision's items and says whose they are; nothing is kept where it does not.
    pub(crate) fn insert<T>(
        &mut self,
        write: impl FnOnce(&mut Vec<u32>) -> Option<(RequestId, T)>,
    ) -> Option<(RequestId, T)> {
        if self.young.is_full() {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let Generation { slots, decisions, items } = &mut self.young;
        let start = items.len();
        let written = write(items);
        match &written {
            Some((id, _)) => {
                let place = Place { id: *id, start: start as u32, end: items.len() as u32 };
                slots.entry(slot_of(*id)).or_default().push(place);
                *decisions += 1;
            }
            None => items.truncate(start),
        }
        written
    }

    pub(crate) fn items(&self, id: RequestId) -> Option<&[u32]> {
        [&self.young, &self.old].into_iter().find_map(|generation| generation.items(id))
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
        assert!(recent.young.decisions <= DECISIONS && recent.old.decisions <= DECISIONS);
    }
}
