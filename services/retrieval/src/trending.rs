//! What visitors act on now: decayed counts of live events per item.
//!
//! Always holds: imported history never counts; the order does not depend on when it is asked for (forward decay: an
//! event weighs 2^(its time / half-life), and only ratios matter); the number of items kept is bounded; an event that
//! stands on the topic twice counts once, if no more than [`GENERATION`] others came between.

use attune_domain::{EventKind, ItemIx, LoggedEvent};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Events of a generation; two are remembered.
const GENERATION: usize = 262_144;

/// Decayed counts, as the base-2 logarithm of the sum of forward weights: sums of any age fit without rescaling.
#[derive(Debug, Clone)]
pub struct Trending {
    half_life_ms: f64,
    max_items: usize,
    logs: HashMap<ItemIx, f64>,
    young: HashSet<u64>,
    old: HashSet<u64>,
}

/// How much an event says. A sight of an item says little: what is shown a lot is not thereby wanted.
fn weight(kind: EventKind) -> Option<f64> {
    match kind {
        EventKind::Impression => Some(0.02),
        EventKind::Dwell => Some(0.5),
        EventKind::Click => Some(1.0),
        EventKind::Like => Some(2.0),
        EventKind::Conversion => Some(4.0),
        EventKind::Hide => None,
    }
}

impl Trending {
    pub fn new(half_life: Duration, max_items: usize) -> Self {
        Self {
            half_life_ms: half_life.as_millis().max(1) as f64,
            max_items: max_items.max(1),
            logs: HashMap::new(),
            young: HashSet::new(),
            old: HashSet::new(),
        }
    }

    pub fn observe(&mut self, event: &LoggedEvent) {
        let Some(weight) = weight(event.kind).filter(|_| !event.imported && event.item.is_known()) else {
            return;
        };
        if !self.is_new(event) {
            return;
        }
        let log = weight.log2() + event.occurred_at as f64 / self.half_life_ms;
        let sum = self.logs.entry(event.item).or_insert(f64::NEG_INFINITY);
        let (high, low) = if *sum > log { (*sum, log) } else { (log, *sum) };
        *sum = high + (low - high).exp2().ln_1p() / std::f64::consts::LN_2;
        if self.logs.len() > self.max_items + self.max_items / 4 {
            let kept = self.ranked();
            self.logs = kept.into_iter().take(self.max_items).collect();
        }
    }

    fn is_new(&mut self, event: &LoggedEvent) -> bool {
        let mut identity = [0; 25];
        identity[..17].copy_from_slice(&event.uid.0);
        identity[17..].copy_from_slice(&event.key().0.to_le_bytes());
        let identity = xxhash_rust::xxh3::xxh3_64(&identity);
        if self.young.contains(&identity) || self.old.contains(&identity) {
            return false;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(identity)
    }

    fn ranked(&self) -> Vec<(ItemIx, f64)> {
        let mut ranked: Vec<_> = self.logs.iter().map(|(item, log)| (*item, *log)).collect();
        ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked
    }

    /// Most wanted first; ties by number.
    pub fn top(&self, k: usize) -> Vec<ItemIx> {
        self.ranked().into_iter().take(k).map(|(item, _)| item).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_domain::{Id, Uid};

    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 1_769_682_600_000;

    fn event(item: u32, kind: EventKind, at: i64) -> LoggedEvent {
        numbered(0, item, kind, at)
    }

    fn numbered(n: u32, item: u32, kind: EventKind, at: i64) -> LoggedEvent {
        LoggedEvent {
            uid: Uid([1; 17]),
            event_id: Id::new(&format!("{n}:{item}:{at}")).unwrap(),
            kind,
            item_id: Id::new("i").unwrap(),
            item: ItemIx(item),
            request_id: None,
            position: None,
            occurred_at: at,
            accepted_at: at,
            value: 1.0,
            imported: false,
            in_decision: false,
            decided: None,
        }
    }

    fn fed(events: &[LoggedEvent]) -> Trending {
        let mut trending = Trending::new(Duration::from_secs(3600), 100);
        events.iter().for_each(|e| trending.observe(e));
        trending
    }

    #[test]
    fn recent_clicks_beat_old_ones() {
        let clicks = |n, at| (0..n).map(move |n| numbered(n, 1, EventKind::Click, at));
        let mut events: Vec<_> = clicks(10, NOW - 4 * HOUR).collect();
        events.push(event(2, EventKind::Click, NOW));
        assert_eq!(fed(&events).top(2), [ItemIx(2), ItemIx(1)], "ten clicks four half-lives ago are 0.625");
        events.extend(clicks(4, NOW - 3 * HOUR));
        assert_eq!(fed(&events).top(2), [ItemIx(1), ItemIx(2)], "and 0.5 more");
        events.reverse();
        assert_eq!(fed(&events).top(1), [ItemIx(1)], "order of arrival does not matter");
    }

    #[test]
    fn what_stands_twice_counts_once_and_ids_are_each_visitors_own() {
        let mut twice = vec![event(1, EventKind::Click, NOW); 3];
        twice.extend([numbered(0, 2, EventKind::Click, NOW), numbered(1, 2, EventKind::Click, NOW)]);
        assert_eq!(fed(&twice).top(2), [ItemIx(2), ItemIx(1)]);
        let other = LoggedEvent { uid: Uid([2; 17]), ..event(1, EventKind::Click, NOW) };
        let third = LoggedEvent { uid: Uid([3; 17]), ..event(1, EventKind::Click, NOW) };
        twice.extend([other, third]);
        assert_eq!(fed(&twice).top(2), [ItemIx(1), ItemIx(2)]);
    }

    #[test]
    fn imported_hidden_and_unknown_do_not_count() {
        let imported = LoggedEvent { imported: true, ..event(1, EventKind::Click, NOW) };
        let nothing = [imported, event(2, EventKind::Hide, NOW), event(u32::MAX, EventKind::Click, NOW)];
        assert!(fed(&nothing).is_empty());
    }

    #[test]
    fn what_it_keeps_is_bounded_and_the_best() {
        let mut trending = Trending::new(Duration::from_secs(3600), 100);
        for item in 0..5_000 {
            trending.observe(&event(item, EventKind::Click, NOW + i64::from(item) * 60_000));
        }
        assert!(trending.logs.len() <= 125);
        assert_eq!(trending.top(3), [ItemIx(4_999), ItemIx(4_998), ItemIx(4_997)]);
    }
}
