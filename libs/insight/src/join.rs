//! Which impression an outcome answers to.
//!
//! Always holds: a (request, item) has at most one impression and one outcome of each kind, whatever arrives in
//! whatever order; an entry lives until the join window of its decision has passed, and what has to leave before that
//! or never finds its impression is counted.

use crate::event::{Decided, OutcomeKind};
use crate::sketch::TREE_ENTRY;
use attune_domain::{ItemIx, RequestId, UnixMillis};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Expiry is looked at once a minute of the stream's time.
const MINUTE_MS: i64 = 60_000;

type Key = ([u8; 16], u32);

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Entry {
    decided: Option<Decided>,
    shown: bool,
    /// Bits of the kinds of outcomes that came.
    kinds: u8,
    /// Those that came before anybody knew the decision; at most one of each kind.
    waiting: Vec<OutcomeKind>,
}

/// At most `join_entries` entries of some 230 bytes: 60 MB at the default 262 144.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Join {
    entries: BTreeMap<Key, Entry>,
    due: BTreeSet<(i64, Key)>,
    pub(crate) counts: JoinCounts,
}

/// What became of impressions and outcomes since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinCounts {
    /// Outcomes found with their decision.
    pub joined: u64,
    /// Impressions and outcomes that had come before.
    pub duplicates: u64,
    /// Impressions that only an outcome told of.
    pub implied: u64,
    /// Outcomes whose decision never came.
    pub unjoined: u64,
    /// Entries that left early for want of room.
    pub evicted: u64,
    /// Impressions and outcomes after the join window of their decision, or further ahead than a clock may be.
    pub late: u64,
}

/// What is new about a (request, item).
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) decided: Option<Decided>,
    /// The impression counts now.
    pub(crate) impression: bool,
    /// These outcomes count now.
    pub(crate) outcomes: Vec<OutcomeKind>,
    /// The first of them that rewards is the first at all.
    pub(crate) reward: bool,
}

impl Join {
    pub(crate) fn impression(&mut self, request: RequestId, item: ItemIx, decided: &Decided, due: i64) -> News {
        let entry = enter(&mut self.entries, &mut self.due, (request.0, item.0), due);
        if std::mem::replace(&mut entry.shown, true) {
            self.counts.duplicates += 1;
            return News::default();
        }
        let news = entry.learn(*decided);
        self.counts.joined += news.outcomes.len() as u64;
        news
    }

    pub(crate) fn outcome(
        &mut self,
        request: RequestId,
        item: ItemIx,
        kind: OutcomeKind,
        decided: Option<&Decided>,
        due: i64,
    ) -> News {
        let entry = enter(&mut self.entries, &mut self.due, (request.0, item.0), due);
        if entry.kinds & kind.bit() != 0 {
            self.counts.duplicates += 1;
            return self.imply(request, item, decided);
        }
        let is_first_reward = entry.kinds & OutcomeKind::REWARDS == 0 && kind.bit() & OutcomeKind::REWARDS != 0;
        entry.kinds |= kind.bit();
        if let Some(known) = entry.decided {
            self.counts.joined += 1;
            return News { decided: Some(known), impression: false, outcomes: vec![kind], reward: is_first_reward };
        }
        entry.waiting.push(kind);
        self.imply(request, item, decided)
    }

    /// An outcome knows the decision, and so that there was an impression.
    fn imply(&mut self, request: RequestId, item: ItemIx, decided: Option<&Decided>) -> News {
        let Some((decided, entry)) = decided.zip(self.entries.get_mut(&(request.0, item.0))) else {
            return News::default();
        };
        let news = entry.learn(*decided);
        self.counts.implied += u64::from(news.impression);
        self.counts.joined += news.outcomes.len() as u64;
        news
    }

    /// When the decision of a (request, item) was made, if it is known.
    pub(crate) fn decided_at(&self, request: RequestId, item: ItemIx) -> Option<UnixMillis> {
        self.entries.get(&(request.0, item.0)).and_then(|entry| entry.decided.map(|decided| decided.at))
    }

    pub(crate) fn advance(&mut self, now: UnixMillis) {
        while let Some(&(minute, key)) = self.due.first() {
            if minute >= now.div_euclid(MINUTE_MS) {
                return;
            }
            self.due.pop_first();
            self.leave(key);
        }
    }

    pub(crate) fn shrink(&mut self, most: usize) {
        while self.entries.len() > most {
            let Some((_, key)) = self.due.pop_first() else { return };
            self.counts.evicted += 1;
            self.leave(key);
        }
    }

    fn leave(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.counts.unjoined += entry.waiting.len() as u64;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The parts must have no (request, item) in common, as partitions by visitor have none.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.entries.extend(other.entries.iter().map(|(&key, entry)| (key, entry.clone())));
        self.due.extend(&other.due);
        let (counts, more) = (&mut self.counts, other.counts);
        counts.joined += more.joined;
        counts.duplicates += more.duplicates;
        counts.implied += more.implied;
        counts.unjoined += more.unjoined;
        counts.evicted += more.evicted;
        counts.late += more.late;
    }

    pub(crate) fn size_bytes(&self) -> usize {
        let waiting: usize =
            self.entries.values().map(|entry| entry.waiting.capacity() * size_of::<OutcomeKind>()).sum();
        self.entries.len() * (size_of::<(Key, Entry)>() + size_of::<(i64, Key)>() + 2 * TREE_ENTRY) + waiting
    }
}

impl Entry {
    fn learn(&mut self, decided: Decided) -> News {
        if self.decided.is_some() {
            return News::default();
        }
        self.decided = Some(decided);
        let outcomes = std::mem::take(&mut self.waiting);
        let reward = outcomes.iter().any(|kind| kind.bit() & OutcomeKind::REWARDS != 0);
        News { decided: self.decided, impression: true, outcomes, reward }
    }
}

fn enter<'a>(
    entries: &'a mut BTreeMap<Key, Entry>,
    dues: &mut BTreeSet<(i64, Key)>,
    key: Key,
    due: i64,
) -> &'a mut Entry {
    entries.entry(key).or_insert_with(|| {
        dues.insert((due.div_euclid(MINUTE_MS), key));
        Entry::default()
    })
}
