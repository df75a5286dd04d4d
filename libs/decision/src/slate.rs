//! From scored candidates to a slate: Thompson sampling, uniform slots, diversity, and the bounds on exploration.
//!
//! Hot path of the edge: no allocation after warm-up, one pass over the candidates per step.

use crate::draw::uniform;
use crate::{Digest, Posteriors, Sampler, Slot};
use attune_domain::ItemIx;

/// How a slate is chosen. Part of what replay needs, so it comes from the bundle's or the service's configuration and
/// its values travel in the record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Probability that a slot is filled uniformly from the eligible candidates.
    pub uniform: f32,
    /// Pseudo-rewards behind the model's base rate in an item's Beta prior.
    pub prior_rewards: f32,
    /// Bounds on the share of exploration slots.
    pub exploration_min: f32,
    pub exploration_max: f32,
    /// Share of a slate that one category fills before its further items are discounted.
    pub category_share: f32,
    /// Factor on an item's score for each better item of its category beyond that share.
    pub category_decay: f32,
}

impl Policy {
    pub const DEFAULT: Self = Self {
        uniform: 0.02,
        prior_rewards: 30.0,
        exploration_min: 0.05,
        exploration_max: 0.15,
        category_share: 0.4,
        category_decay: 0.93,
    };

    pub fn to_array(self) -> [f32; 6] {
        [
            self.uniform,
            self.prior_rewards,
            self.exploration_min,
            self.exploration_max,
            self.category_share,
            self.category_decay,
        ]
    }

    pub fn from_array(values: &[f32]) -> Option<Self> {
        let &[uniform, prior_rewards, exploration_min, exploration_max, category_share, category_decay] = values
        else {
            return None;
        };
        Some(Self { uniform, prior_rewards, exploration_min, exploration_max, category_share, category_decay })
    }

    /// The same ranking without any chance: for evaluation and for what an oracle would call exploitation.
    pub const fn exploit_only(self) -> Self {
        Self { uniform: 0.0, exploration_min: 0.0, exploration_max: 0.0, ..self }
    }
}

/// Columns by dense item number.
#[derive(Debug, Clone, Copy)]
pub struct ItemFacts<'a> {
    /// The model's mean click probability of each item.
    pub base_rates: &'a [f32],
    /// Primary category; `u16::MAX` for none.
    pub categories: &'a [u16],
}

/// Buffers reused between requests.
#[derive(Debug, Default)]
pub struct Scratch {
    means: Vec<f32>,
    draws: Vec<f32>,
    order: Vec<u32>,
    keys: Vec<(u64, u32)>,
    factors: Vec<f32>,
    is_top: Vec<bool>,
    taken: Vec<bool>,
    category_counts: Vec<(u16, u32)>,
}

/// A slate: indices into the candidates, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chosen {
    /// Position of each slot's item in the candidate list.
    pub picks: Vec<u32>,
    /// Posterior mean of each slot's item.
    pub means: Vec<f32>,
    pub slots: Vec<Slot>,
    /// Digest of every candidate's draw.
    pub sample_digest: u64,
    /// Digest of the slate.
    pub slate_digest: u64,
}

const PURPOSE_EXPLORATION: u64 = 1 << 32;
const PURPOSE_UNIFORM: u64 = 2 << 32;
const PURPOSE_WHICH: u64 = 3 << 32;

/// Chooses `limit` of the candidates.
///
/// `items` and `scores` (click probabilities) are parallel and hold no item twice. Fewer candidates than `limit` give a
/// shorter slate.
#[expect(clippy::too_many_arguments, reason = "each is one input of the decision record")]
pub fn choose(
    policy: &Policy,
    sampler: Sampler,
    seed: u64,
    limit: usize,
    items: &[u32],
    scores: &[f32],
    facts: ItemFacts<'_>,
    posteriors: &Posteriors,
    scratch: &mut Scratch,
) -> Chosen {
    let n = items.len().min(scores.len());
    let limit = limit.min(n);
    let s = scratch;
    s.means.clear();
    s.draws.clear();
    let explores = policy.exploration_max > 0.0;
    for (&item, &score) in items.iter().zip(scores) {
        let item = ItemIx(item);
        let base = facts.base_rates.get(item.index()).copied().unwrap_or(0.05);
        let (alpha, beta) = posteriors.beta(item, base, policy.prior_rewards);
        let per_base = score / base.clamp(0.005, 0.995);
        let mean = alpha / (alpha + beta) * per_base;
        s.means.push(mean);
        s.draws.push(if explores { sampler.draw(seed, item, alpha, beta) * per_base } else { mean });
    }
    let sample_digest = Digest::default().f32s(&s.draws).finish();

    discount_categories(policy, limit, items, facts.categories, s);
    for ((mean, draw), factor) in s.means.iter_mut().zip(&mut s.draws).zip(&s.factors) {
        *mean *= factor;
        *draw *= factor;
    }

    // The pool: the best by mean (what exploitation would show), and the best by draw.
    let pool_len = (3 * limit).min(n);
    top(&mut s.order, &mut s.keys, limit, items, &s.means);
    s.is_top.clear();
    s.is_top.resize(n, false);
    s.order[..limit].iter().for_each(|&i| s.is_top[i as usize] = true);
    let mut pool: Vec<u32> = s.order[..limit].to_vec();
    if explores {
        top(&mut s.order, &mut s.keys, pool_len, items, &s.draws);
        pool.extend(s.order[..pool_len].iter().filter(|&&i| !s.is_top[i as usize]));
        pool.sort_unstable_by_key(|&i| rank(items[i as usize], s.draws[i as usize]));
    }

    // The same uniform number for both bounds: the share is within them on average for any `limit`.
    let u = uniform(seed, PURPOSE_EXPLORATION);
    let at_most = (f64::from(policy.exploration_max) * limit as f64 + u) as usize;
    let at_least = ((f64::from(policy.exploration_min) * limit as f64 + u) as usize).min(n - limit);

    s.taken.clear();
    s.taken.resize(n, false);
    let mut chosen = Chosen { sample_digest, ..Chosen::default() };
    let mut exploring = 0;
    for slot in 0..limit {
        let is_uniform = uniform(seed, PURPOSE_UNIFORM | slot as u64) < f64::from(policy.uniform);
        let left = limit - slot;
        let pick = if is_uniform {
            uniform_pick(seed, slot, n, &s.taken)
        } else {
            // As many of the last slots as the lower bound still lacks must explore.
            let must_explore = at_least.saturating_sub(exploring) >= left;
            let may_explore = exploring < at_most;
            let fits = |&&i: &&u32| {
                let i = i as usize;
                !s.taken[i] && if s.is_top[i] { !must_explore } else { may_explore || must_explore }
            };
            match pool.iter().find(fits).or_else(|| pool.iter().find(|&&i| !s.taken[i as usize])) {
                Some(&i) => i as usize,
                None => uniform_pick(seed, slot, n, &s.taken),
            }
        };
        s.taken[pick] = true;
        let exploration = !s.is_top[pick];
        exploring += usize::from(exploration);
        chosen.picks.push(pick as u32);
        chosen.means.push(s.means[pick]);
        chosen.slots.push(Slot { exploration, uniform: is_uniform });
    }
    let mut digest = Digest::default();
    for (&pick, slot) in chosen.picks.iter().zip(&chosen.slots) {
        digest = digest.u32s(&[items[pick as usize], u32::from(slot.exploration) | u32::from(slot.uniform) << 1]);
    }
    chosen.slate_digest = digest.finish();
    chosen
}

/// Puts the indices of the `k` best by `values` in `order`, best first; ties by item number.
fn top(order: &mut Vec<u32>, keys: &mut Vec<(u64, u32)>, k: usize, items: &[u32], values: &[f32]) {
    keys.clear();
    keys.extend(items.iter().zip(values).zip(0..).map(|((&item, &value), i)| (rank(item, value), i)));
    if k < keys.len() && k > 0 {
        keys.select_nth_unstable_by_key(k - 1, |&(rank, _)| rank);
    }
    keys[..k].sort_unstable_by_key(|&(rank, _)| rank);
    order.clear();
    order.extend(keys[..k].iter().map(|&(_, i)| i));
}

/// One number to sort by: the higher value first in the total order of floats, then the lower item.
fn rank(item: u32, value: f32) -> u64 {
    let bits = value.to_bits();
    let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(!ascending) << 32 | u64::from(item)
}

/// Fills `factors`: 1, or less for an item with more than its category's share of better items before it.
fn discount_categories(policy: &Policy, limit: usize, items: &[u32], categories: &[u16], s: &mut Scratch) {
    let n = s.means.len();
    s.factors.clear();
    s.factors.resize(n, 1.0);
    let depth = (3 * limit).min(n);
    top(&mut s.order, &mut s.keys, depth, items, &s.means);
    s.category_counts.clear();
    let free = (policy.category_share * limit as f32).ceil().max(1.0) as u32;
    for &i in &s.order[..depth] {
        let category = categories.get(items[i as usize] as usize).copied().unwrap_or(u16::MAX);
        if category == u16::MAX {
            continue;
        }
        let count = match s.category_counts.iter_mut().find(|(c, _)| *c == category) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                s.category_counts.push((category, 1));
                1
            }
        };
        if count > free {
            s.factors[i as usize] = policy.category_decay.powi((count - free).min(64) as i32);
        }
    }
}

/// An index not yet taken, uniformly.
fn uniform_pick(seed: u64, slot: usize, n: usize, taken: &[bool]) -> usize {
    let free = n - slot;
    let mut nth = (uniform(seed, PURPOSE_WHICH | slot as u64) * free as f64) as usize;
    nth = nth.min(free.saturating_sub(1));
    taken.iter().enumerate().filter(|(_, t)| !**t).nth(nth).map_or(0, |(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_domain::{PosteriorCounts, PosteriorSnapshot};
    use proptest::prelude::*;

    struct Case {
        items: Vec<u32>,
        scores: Vec<f32>,
        base_rates: Vec<f32>,
        categories: Vec<u16>,
    }

    fn case(n: usize) -> Case {
        Case {
            items: (0..n as u32).map(|i| (i * 7919) % n as u32).collect(),
            scores: (0..n).map(|i| 0.3 / (1.0 + i as f32 * 0.02)).collect(),
            base_rates: vec![0.05; n],
            categories: (0..n).map(|i| (i % 9) as u16).collect(),
        }
    }

    fn run(case: &Case, policy: &Policy, seed: u64, limit: usize, posteriors: &Posteriors) -> Chosen {
        let facts = ItemFacts { base_rates: &case.base_rates, categories: &case.categories };
        choose(policy, Sampler::Fast, seed, limit, &case.items, &case.scores, facts, posteriors, &mut Scratch::default())
    }

    #[test]
    fn exploration_stays_within_its_bounds() {
        for limit in [1, 3, 5, 10, 20, 50, 100] {
            let case = case(400);
            let rounds = 2_000;
            let explored: usize = (0..rounds)
                .map(|seed| {
                    let chosen = run(&case, &Policy::DEFAULT, seed, limit, &Posteriors::default());
                    chosen.slots.iter().filter(|s| s.exploration).count()
                })
                .sum();
            let share = explored as f64 / (rounds as usize * limit) as f64;
            assert!((0.045..0.17).contains(&share), "limit {limit}: {share}");
        }
    }

    #[test]
    fn uniform_slots_come_at_their_rate() {
        let case = case(300);
        let uniform: usize = (0..4_000)
            .map(|seed| run(&case, &Policy::DEFAULT, seed, 20, &Posteriors::default()))
            .map(|chosen| chosen.slots.iter().filter(|s| s.uniform).count())
            .sum();
        let rate = uniform as f64 / 80_000.0;
        assert!((0.018..0.022).contains(&rate), "{rate}");
    }

    #[test]
    fn evidence_moves_an_item() {
        let case = case(200);
        let counts = PosteriorCounts { item: ItemIx(case.items[150]), impressions: 2000.0, rewards: 1900.0 };
        let snapshot = PosteriorSnapshot { counts: vec![counts], next_offset: 0 };
        let informed = Posteriors::new(&snapshot, [1; 16]);
        let policy = Policy::DEFAULT.exploit_only();
        assert!(!run(&case, &policy, 1, 10, &Posteriors::default()).picks.contains(&150));
        assert_eq!(run(&case, &policy, 1, 10, &informed).picks[0], 150);
    }

    #[test]
    fn one_category_cannot_fill_a_slate() {
        let mut case = case(200);
        case.categories = (0..200).map(|ix| u16::from(!case.items[..60].contains(&ix))).collect();
        let policy = Policy { category_decay: 0.5, ..Policy::DEFAULT.exploit_only() };
        let chosen = run(&case, &policy, 1, 20, &Posteriors::default());
        let first = chosen.picks.iter().filter(|&&p| case.categories[case.items[p as usize] as usize] == 0).count();
        assert!(first < 15, "{first}");
    }

    proptest! {
        #[test]
        fn ranks_order_as_values_and_items_do(a: u32, b: u32, i: u32, j: u32) {
            let (x, y) = (f32::from_bits(a), f32::from_bits(b));
            prop_assert_eq!(rank(i, x).cmp(&rank(j, y)), y.total_cmp(&x).then(i.cmp(&j)));
            prop_assert_eq!(rank(i, x).cmp(&rank(j, x)), i.cmp(&j));
        }

        #[test]
        fn a_slate_is_distinct_and_deterministic(n in 0usize..120, limit in 0usize..120, seed: u64) {
            let case = case(n.max(1));
            let chosen = run(&case, &Policy::DEFAULT, seed, limit, &Posteriors::default());
            prop_assert_eq!(chosen.picks.len(), limit.min(n.max(1)));
            let distinct: std::collections::HashSet<_> = chosen.picks.iter().collect();
            prop_assert_eq!(distinct.len(), chosen.picks.len());
            prop_assert_eq!(&run(&case, &Policy::DEFAULT, seed, limit, &Posteriors::default()), &chosen);
        }
    }
}
