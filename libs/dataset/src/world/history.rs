//! A past for the world: slates by a policy that knows no one, and what visitors did with them.

use super::visitor::{open_item, react};
use super::{SLATE, UserTraits, World, generator};
use crate::{Dataset, DatasetEvent, SlateSlot};
use attune_domain::{Context, EventKind, ItemIx, UnixMillis};
use attune_identity::SubjectKey;
use rand::{Rng, RngExt as _};

const HOUR: i64 = 3_600_000;
/// How far back the history goes.
const SPAN: i64 = 28 * 24 * HOUR;
/// The last session starts this long before now, so that nothing is in the future: a session takes at most
/// 20 times the longest dwell.
const QUIET: i64 = 6 * HOUR;
/// Share of visitors who were there from the start; the others come in the course of the history.
const FOUNDERS: f64 = 0.6;
/// Share of slates drawn uniformly; the others are drawn by popularity.
const UNIFORM: f64 = 0.5;
/// Items found without a slate (by search, by a friend) per session, on average.
const FOUND: f32 = 1.0;
/// Items among which a visitor finds one.
const SHELF: usize = 60;

impl World {
    /// Sessions of every visitor up to `now`, `sessions_per_user` on average: a slate of [`SLATE`] with its impressions
    /// and what followed, and items found without a slate.
    pub fn history(&self, key: &SubjectKey, now: UnixMillis, sessions_per_user: u32) -> Dataset {
        let popularity = Popularity::new(&self.goods.appeal);
        let mut events = Vec::new();
        let mut slates = 0;
        for (user, traits) in (0..).zip(&self.users) {
            self.past_of(user, traits, (now, sessions_per_user), &popularity, &mut slates, &mut events);
        }
        events.sort_by_key(|e| e.occurred_at);
        Dataset {
            items: self.goods.items.clone(),
            users: (0..self.config.users).map(|n| key.uid(&self.user_raw_id(n))).collect(),
            attributes: self.users.iter().map(UserTraits::attributes).collect(),
            events,
            test: Vec::new(),
            key_fingerprint: key.fingerprint(),
            name: format!("world-{}", self.config.seed),
        }
    }

    fn past_of(
        &self,
        user: u32,
        traits: &UserTraits,
        (now, sessions_per_user): (UnixMillis, u32),
        popularity: &Popularity,
        slates: &mut u32,
        events: &mut Vec<DatasetEvent>,
    ) {
        let rng = &mut generator(self.config.seed, "history", u64::from(user));
        let from = if rng.random_bool(FOUNDERS) { 0 } else { rng.random_range(0..SPAN * 8 / 10) };
        let sessions = (sessions_per_user as f32 * traits.activity + rng.random::<f32>()) as u32;
        let mut own = Vec::new();
        for _ in 0..sessions {
            let start = now - SPAN + rng.random_range(from..SPAN - QUIET);
            let context = traits.draw_context(rng);
            let slate = if rng.random_bool(UNIFORM) { self.uniform(rng) } else { popularity.draw(rng) };
            let event = |item, kind, occurred_at, value, slate| DatasetEvent {
                user,
                item,
                kind,
                occurred_at,
                value,
                slate,
                context,
            };
            for (&item, position) in slate.iter().zip(0u8..) {
                let slot = Some(SlateSlot { slate: *slates, position });
                own.push(event(item, EventKind::Impression, start, 1.0, slot));
            }
            let mut end = start;
            for action in react(self, traits, &slate, context, rng).actions {
                end = start + action.after.as_millis() as i64;
                let slot = Some(SlateSlot { slate: *slates, position: action.position });
                own.push(event(action.item, action.kind, end, action.value, slot));
            }
            *slates += 1;
            for _ in 0..(FOUND + rng.random::<f32>()) as u32 {
                end += rng.random_range(2_000..30_000);
                let item = self.found_item(traits, context, rng);
                open_item(self, traits, context, item, rng, |kind, value, takes| {
                    end += (takes.as_millis() as i64).max(1);
                    own.push(event(item, kind, end, value, None));
                });
            }
        }
        part_interactions(&mut own);
        events.append(&mut own);
    }

    /// Different items, evenly drawn.
    fn uniform(&self, rng: &mut impl Rng) -> Vec<ItemIx> {
        let items = self.goods.items.len();
        rand::seq::index::sample(rng, items, SLATE.min(items)).into_iter().map(|i| ItemIx(i as u32)).collect()
    }

    /// The best of a shelf of random items: taste is what makes a visitor find it.
    fn found_item(&self, traits: &UserTraits, context: Context, rng: &mut impl Rng) -> ItemIx {
        let mut best = (f64::NEG_INFINITY, ItemIx(0));
        for _ in 0..SHELF {
            let item = ItemIx(rng.random_range(0..self.config.items));
            let utility = self.utility(traits, context, item);
            if utility > best.0 {
                best = (utility, item);
            }
        }
        best.1
    }
}

/// Orders one visitor's events by time and lets no two interactions share a millisecond, even where sessions overlap.
fn part_interactions(events: &mut [DatasetEvent]) {
    events.sort_by_key(|e| e.occurred_at);
    let mut last = i64::MIN;
    for event in events.iter_mut().filter(|e| e.kind.is_interaction()) {
        event.occurred_at = event.occurred_at.max(last.saturating_add(1));
        last = event.occurred_at;
    }
}

/// Draws slates in proportion to what sells anyway.
struct Popularity {
    /// Running sums of the items' weights.
    sums: Vec<f64>,
}

impl Popularity {
    fn new(appeal: &[f32]) -> Self {
        let mut sum = 0.0;
        let weigh = |a: &f32| {
            sum += f64::from(1.2 * a).exp();
            sum
        };
        Self { sums: appeal.iter().map(weigh).collect() }
    }

    fn draw(&self, rng: &mut impl Rng) -> Vec<ItemIx> {
        let total = self.sums.last().copied().unwrap_or(0.0);
        let wanted = SLATE.min(self.sums.len());
        let mut slate: Vec<ItemIx> = Vec::with_capacity(wanted);
        // A few repeats are drawn again; where the weights are so uneven that this does not end, the next items fill up.
        for _ in 0..20 * SLATE {
            if slate.len() == wanted {
                return slate;
            }
            let at = rng.random::<f64>() * total;
            let item = ItemIx(self.sums.partition_point(|&s| s <= at).min(self.sums.len() - 1) as u32);
            if !slate.contains(&item) {
                slate.push(item);
            }
        }
        for item in (0..self.sums.len() as u32).map(ItemIx) {
            if slate.len() < wanted && !slate.contains(&item) {
                slate.push(item);
            }
        }
        slate
    }
}
