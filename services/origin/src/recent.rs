//! What is remembered of decisions on their way to the log and just written: bounded, and only ever a saving.
//!
//! Two generations each: when the young one is full, it becomes the old one, and the one before it is forgotten.
//! A decision takes 32 bytes and each of its items 6.25: 31 MB at 20 items a decision, at most 47 MB (without scores and
//! kinds of slots it was 21 and 30).

use crate::slate::{Facts, Slate};
use attune_decision::SCORED_SLOTS;
use attune_domain::{RequestId, Uid};
use attune_storage::{ObjectHash, RecordHead};
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;

/// Decisions in a generation, and the items of all of them together.
const DECISIONS: usize = 100_000;
const ITEMS: usize = 32 * DECISIONS;
/// Models and policies in a generation: a change of either is rare.
const SETTINGS: usize = 256;
/// Object names in a generation.
const OBJECTS: usize = 100_000;

/// Slates of recent decisions.
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
    /// Scores and kinds of the slots of each decision, packed as in its record.
    packed: Vec<u8>,
    settings: Vec<Setting>,
}

/// What many decisions have in common.
#[derive(Clone, Copy, PartialEq)]
struct Setting {
    model: u64,
    uniform: f32,
}

/// Where a decision's items are in `items`, what is packed of them, and what else is known.
struct Place {
    id: RequestId,
    start: u32,
    packed: u32,
    count: u16,
    eligible: u16,
    setting: u8,
    level: u8,
    variant: u8,
    scored: bool,
}

impl Generation {
    fn is_full(&self) -> bool {
        self.decisions >= DECISIONS || self.items.len() >= ITEMS || self.settings.len() >= SETTINGS
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.decisions = 0;
        self.items.clear();
        self.packed.clear();
        self.settings.clear();
    }

    /// What was said of a decision last.
    fn slate(&self, id: RequestId) -> Option<Slate<'_>> {
        let place = self.slots.get(&slot_of(id))?.iter().rev().find(|place| place.id == id)?;
        let (start, packed, count) = (place.start as usize, place.packed as usize, usize::from(place.count));
        let slots = packed + if place.scored { 2 * count.min(SCORED_SLOTS) } else { 0 };
        let Setting { model, uniform } = *self.settings.get(usize::from(place.setting))?;
        let Place { level, variant, eligible, .. } = *place;
        Some(Slate {
            items: self.items.get(start..start + count)?,
            scores: self.packed.get(packed..slots)?,
            slots: self.packed.get(slots..slots + count.div_ceil(4))?,
            facts: Facts { model, uniform, eligible, level, variant },
        })
    }

    /// Its number. There is room for one more.
    fn setting(&mut self, setting: Setting) -> u8 {
        let known = self.settings.iter().rposition(|known| *known == setting);
        let at = known.unwrap_or_else(|| {
            self.settings.push(setting);
            self.settings.len() - 1
        });
        at as u8
    }
}

/// Eight milliseconds.
fn slot_of(id: RequestId) -> u64 {
    id.unix_millis() as u64 >> 3
}

impl RecentDecisions {
    /// Remembers an encoded record and says whose it is; nothing is kept of bytes that are none.
    pub(crate) fn insert(&mut self, record: &[u8]) -> Option<(RequestId, Uid)> {
        if self.young.is_full() {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        let young = &mut self.young;
        let start = young.items.len();
        let read = RecordHead::read(record, Some(&mut young.items)).and_then(|head| {
            let count = u16::try_from(young.items.len() - start).ok()?;
            Some((RequestId::from_slice(head.request_id)?, Uid::from_slice(head.uid)?, count, head))
        });
        let Some((id, uid, count, head)) = read else {
            young.items.truncate(start);
            return None;
        };
        let facts = Facts::of(&head);
        let packed = young.packed.len() as u32;
        let scored = count > 0 && head.scores.len() == 2 * usize::from(count).min(SCORED_SLOTS);
        if scored {
            young.packed.extend_from_slice(head.scores);
        }
        let slots = usize::from(count).div_ceil(4);
        let end = young.packed.len() + slots;
        young.packed.extend_from_slice(&head.slots[..head.slots.len().min(slots)]);
        young.packed.resize(end, 0);
        let Facts { model, uniform, eligible, level, variant } = facts;
        let setting = young.setting(Setting { model, uniform });
        let place = Place { id, start: start as u32, packed, count, eligible, setting, level, variant, scored };
        young.slots.entry(slot_of(id)).or_default().push(place);
        young.decisions += 1;
        Some((id, uid))
    }

    pub(crate) fn slate(&self, id: RequestId) -> Option<Slate<'_>> {
        [&self.young, &self.old].into_iter().find_map(|generation| generation.slate(id))
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
    use attune_decision::{DecisionRecord, Slot, encode_record, pack_scores, pack_slots};
    use attune_domain::{ItemIx, SlotKind};
    use bytes::Bytes;

    fn id(n: u32) -> RequestId {
        RequestId::new(n.into(), [0; 10])
    }

    fn record(n: u32, items: &[u32]) -> DecisionRecord {
        DecisionRecord {
            request_id: Bytes::copy_from_slice(&id(n).0),
            uid: Bytes::from_static(&[1; 17]),
            items: items.to_vec(),
            ..DecisionRecord::default()
        }
    }

    fn items(recent: &RecentDecisions, n: u32) -> Option<&[u32]> {
        recent.slate(id(n)).map(|slate| slate.items)
    }

    #[test]
    fn the_last_generation_at_least_is_known() {
        let mut recent = RecentDecisions::default();
        let last = 3 * DECISIONS as u32 + 7;
        for n in 0..=last {
            let record = encode_record(&record(n, &[n, n + 1]));
            let bytes = if n % 10 == 3 { &record[1..] } else { &record[..] };
            assert_eq!(recent.insert(bytes).is_some(), n % 10 != 3, "{n}");
        }
        assert_eq!(items(&recent, last), Some(&[last, last + 1][..]));
        let older = last - DECISIONS as u32 + 2;
        assert_eq!(items(&recent, older), Some(&[older, older + 1][..]));
        assert_eq!((items(&recent, 13), items(&recent, 0)), (None, None));
        assert!(recent.young.decisions <= DECISIONS && recent.old.decisions <= DECISIONS);
        assert_eq!(size_of::<Place>(), 32);
    }

    #[test]
    fn a_slot_is_told_as_it_was_recorded() {
        let slots = [(false, false), (true, false), (true, true), (false, false), (false, true)]
            .map(|(exploration, uniform)| Slot { exploration, uniform });
        let told = DecisionRecord {
            level: 1,
            variant: 0,
            model: 77,
            policy: vec![0.02, 30.0],
            eligible: 400,
            slots: Bytes::from(pack_slots(&slots)),
            scores: Bytes::from(pack_scores(&[0.5, 0.3, 0.9, 0.3, 0.1])),
            ..record(1, &[10, 11, 12, 13, 14])
        };
        let favourites =
            DecisionRecord { variant: 1, level: 4, slots: Bytes::from(vec![0; 2]), ..record(2, &[5, 6, 7, 8, 9]) };
        let mut recent = RecentDecisions::default();
        for record in [&told, &favourites, &record(3, &[])] {
            recent.insert(&encode_record(record)).unwrap();
        }
        let slate = recent.slate(id(1)).unwrap();
        let slot = |item| slate.decided(ItemIx(item)).unwrap();
        let ideal: Vec<u16> = (10..15).map(|item| slot(item).ideal_position).collect();
        assert_eq!(ideal, [1, 2, 0, 3, 4]);
        assert_eq!([10, 11, 12].map(|item| slot(item).kind), [SlotKind::Exploit, SlotKind::Explore, SlotKind::Uniform]);
        assert!((slot(12).propensity.unwrap() - 0.02 / 400.0).abs() < 1e-9);
        assert!((slot(14).score.unwrap() - 0.1).abs() < 1e-4);
        assert_eq!((slot(10).model, slot(10).propensity, slot(13).position), (77, None, 3));
        assert_eq!(slate.decided(ItemIx(5)), None);

        let favourite = recent.slate(id(2)).unwrap().decided(ItemIx(7)).unwrap();
        assert_eq!((favourite.score, favourite.position, favourite.ideal_position), (None, 2, 2));
        assert_eq!(recent.slate(id(3)).unwrap().decided(ItemIx(7)), None);
    }
}
