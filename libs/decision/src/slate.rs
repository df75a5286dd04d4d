//! From scored candidates to a slate: Thompson sampling, uniform slots, diversity, and the bounds on exploration.
//!
//! Hot path of the edge: no allocation after warm-up, one pass over the candidates per step.

use crate::draw::uniform;
use crate::{Digest, Posteriors, Sampler, Slot};
use attune_domain::ItemIx;
use attune_inference::Highest;

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
        let &[uniform, prior_rewards, exploration_min, exploration_max, category_share, category_decay] = values else {
            return None;
        };
        Some(Self { uniform, prior_rewards, exploration_min, exploration_max, category_share, category_decay })
    }

    /// The same ranking without any chance: for evaluation and for what an oracle would call exploitation.
    pub const fn exploit_only(self) -> Self {
        Self { uniform: 0.0, exploration_min: 0.0, exploration_max: 0.0, ..self }
    }
}

/// What there is to choose from: columns, equally long, that hold no item twice.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    pub items: &'a [u32],
    /// Click probability of each for this visitor.
    pub scores: &'a [f32],
    /// The model's mean click probability of each.
    pub base_rates: &'a [f32],
    /// Primary category of every item there is, by its number; `u16::MAX` for none.
    pub categories: &'a [u16],
}

/// Buffers reused between requests.
#[derive(Debug, Default)]
pub struct Scratch {
    counts: Vec<[f32; 2]>,
    alpha: Vec<f32>,
    beta: Vec<f32>,
    /// Score over base rate: what the model adds to an item's posterior for this visitor.
    lift: Vec<f32>,
    means: Vec<f32>,
    draws: Vec<f32>,
    keys: Vec<u64>,
    /// What the discounts make of the keys, and the discounts.
    discounted: Vec<u64>,
    factors: Vec<f32>,
    highest: Highest,
    pool: Vec<u64>,
    is_top: Vec<bool>,
    taken: Vec<bool>,
    is_uniform: Vec<bool>,
    /// By category; all untouched between slates.
    categories: Vec<CategoryCount>,
    touched: Vec<u16>,
}

/// How often a category has come so far, and the discount on its last item.
#[derive(Debug, Clone, Copy)]
struct CategoryCount {
    count: u32,
    factor: f32,
}

impl CategoryCount {
    const UNTOUCHED: Self = Self { count: 0, factor: 1.0 };
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

/// Chooses `limit` of the candidates. Fewer candidates than `limit` give a shorter slate.
pub fn choose(
    policy: &Policy,
    sampler: Sampler,
    seed: u64,
    limit: usize,
    choice: Choice<'_>,
    posteriors: &Posteriors,
    scratch: &mut Scratch,
) -> Chosen {
    let Choice { items, scores, base_rates, categories } = choice;
    let n = items.len().min(scores.len()).min(base_rates.len());
    let (items, scores, base_rates) = (&items[..n], &scores[..n], &base_rates[..n]);
    let limit = limit.min(n);
    let s = scratch;
    let explores = policy.exploration_max > 0.0;
    s.counts.clear();
    s.counts.extend(items.iter().map(|&item| posteriors.counts(ItemIx(item))));
    for column in [&mut s.alpha, &mut s.beta, &mut s.lift, &mut s.means, &mut s.draws] {
        column.resize(n, 0.0);
    }
    attune_inference::posterior_columns(
        policy.prior_rewards,
        base_rates,
        &s.counts,
        scores,
        &mut s.alpha,
        &mut s.beta,
        &mut s.lift,
        &mut s.means,
    );
    if explores {
        sampler.draw_all(seed, items, &s.alpha, &s.beta, &mut s.draws);
        s.draws.iter_mut().zip(&s.lift).for_each(|(draw, lift)| *draw *= lift);
    } else {
        s.draws.copy_from_slice(&s.means);
    }
    let sample_digest = Digest::default().f32s(&s.draws).finish();

    mark_top(policy, limit, items, categories, s);

    // The same uniform number for both bounds: the share is within them on average for any `limit`.
    let u = uniform(seed, PURPOSE_EXPLORATION);
    let at_most = (f64::from(policy.exploration_max) * limit as f64 + u) as usize;
    let at_least = ((f64::from(policy.exploration_min) * limit as f64 + u) as usize).min(n - limit);
    let is_uniform = |slot: usize| uniform(seed, PURPOSE_UNIFORM | slot as u64) < f64::from(policy.uniform);
    s.is_uniform.clear();
    s.is_uniform.extend((0..limit).map(is_uniform));
    let uniform_slots = s.is_uniform.iter().filter(|&&is_uniform| is_uniform).count();

    // The pool: the best by mean, which exploitation would show, and as many of the others, best by draw, as can come
    // to be shown for their draw.
    s.pool.clear();
    s.pool.extend(s.keys.iter().map(|&by_mean| index(by_mean)).map(|i| key(i, s.draws[i])));
    if explores {
        let others = at_most.max(at_least) + uniform_slots;
        best_others(&mut s.keys, &mut s.highest, others.min(n - limit), limit, &s.draws, &s.is_top);
        s.pool.extend_from_slice(&s.keys);
    }
    s.pool.sort_unstable();

    s.taken.clear();
    s.taken.resize(n, false);
    let mut chosen = Chosen {
        picks: Vec::with_capacity(limit),
        means: Vec::with_capacity(limit),
        slots: Vec::with_capacity(limit),
        sample_digest,
        slate_digest: 0,
    };
    let mut exploring = 0;
    // Everything before it in the pool is taken.
    let mut first = 0;
    for slot in 0..limit {
        let is_uniform = s.is_uniform[slot];
        let left = limit - slot;
        let pick = if is_uniform {
            uniform_pick(seed, slot, n, &s.taken)
        } else {
            // As many of the last slots as the lower bound still lacks must explore.
            let must_explore = at_least.saturating_sub(exploring) >= left;
            let may_explore = exploring < at_most;
            let fits =
                |&i: &usize| !s.taken[i] && if s.is_top[i] { !must_explore } else { may_explore || must_explore };
            let taken_before = s.pool[first..].iter().take_while(|&&key| s.taken[index(key)]).count();
            first += taken_before;
            let mut pool = s.pool[first..].iter().map(|&key| index(key));
            match pool.clone().find(fits).or_else(|| pool.find(|&i| !s.taken[i])) {
                Some(i) => i,
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

/// One number to sort by: the higher value first in the total order of floats, then the earlier candidate.
fn key(i: usize, value: f32) -> u64 {
    u64::from(place(value)) << 32 | i as u64
}

/// Lower for a higher value.
fn place(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 0 { !(bits | 1 << 31) } else { bits }
}

fn index(key: u64) -> usize {
    key as u32 as usize
}

/// Leaves the keys of the `k` best values and of few others, in no order. (A value that is not a number may be passed
/// over.)
fn about_best(keys: &mut Vec<u64>, highest: &mut Highest, k: usize, values: &[f32]) {
    keys.clear();
    if k > 0 {
        keys.extend(highest.about(values, k).iter().map(|&i| i as usize).map(|i| key(i, values[i])));
    }
}

/// Keeps the `k` lowest keys, in no order.
fn keep_first(keys: &mut Vec<u64>, k: usize) {
    if k < keys.len() && k > 0 {
        keys.select_nth_unstable(k - 1);
    }
    keys.truncate(k);
}

/// Leaves the keys of the `k` best values that are not among the `tops` on top, in no order.
fn best_others(keys: &mut Vec<u64>, highest: &mut Highest, k: usize, tops: usize, values: &[f32], is_top: &[bool]) {
    about_best(keys, highest, if k == 0 { 0 } else { k + tops }, values);
    keys.retain(|&key| !is_top[index(key)]);
    keep_first(keys, k);
}

/// Discounts what has more than its category's share of better items before it, then marks the `limit` best by mean
/// and leaves their keys.
///
/// The order of discounts is looked at from the best down, only as far as it decides who is among the `limit` best.
fn mark_top(policy: &Policy, limit: usize, items: &[u32], categories: &[u16], s: &mut Scratch) {
    let n = items.len();
    s.is_top.clear();
    s.is_top.resize(n, false);
    s.keys.clear();
    if limit == 0 {
        return;
    }
    let free = (policy.category_share * limit as f32).ceil().max(1.0) as u32;
    let mut depth = limit;
    loop {
        depth = (2 * depth).min(n);
        about_best(&mut s.keys, &mut s.highest, depth, &s.means);
        s.keys.sort_unstable();
        s.keys.truncate(depth);
        discount(free, policy.category_decay, items, categories, s);
        s.discounted.select_nth_unstable(limit - 1);
        // What lies deeper is no better than this.
        let bound = s.keys[depth - 1];
        if depth == n || s.discounted[limit - 1] <= bound {
            break;
        }
    }
    for (&key, &factor) in s.keys.iter().zip(&s.factors) {
        s.means[index(key)] *= factor;
        s.draws[index(key)] *= factor;
    }
    std::mem::swap(&mut s.keys, &mut s.discounted);
    s.keys.truncate(limit);
    s.keys.iter().for_each(|&key| s.is_top[index(key)] = true);
}

/// The factors of the keys, which stand best first, and the keys that they make of them.
fn discount(free: u32, decay: f32, items: &[u32], categories: &[u16], s: &mut Scratch) {
    s.factors.clear();
    s.discounted.clear();
    for &by_mean in &s.keys {
        let i = index(by_mean);
        let category = categories.get(items[i] as usize).copied().unwrap_or(u16::MAX);
        let mut factor = 1.0;
        if category != u16::MAX {
            if s.categories.len() <= category.into() {
                s.categories.resize(usize::from(category) + 1, CategoryCount::UNTOUCHED);
            }
            let known = &mut s.categories[usize::from(category)];
            if known.count == 0 {
                s.touched.push(category);
            }
            known.count += 1;
            if known.count > free {
                known.factor *= decay;
            }
            factor = known.factor;
        }
        s.factors.push(factor);
        s.discounted.push(if factor < 1.0 { key(i, s.means[i] * factor) } else { by_mean });
    }
    for category in s.touched.drain(..) {
        s.categories[usize::from(category)] = CategoryCount::UNTOUCHED;
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
    use crate::draw::mix;
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
        let choice = Choice {
            items: &case.items,
            scores: &case.scores,
            base_rates: &case.base_rates,
            categories: &case.categories,
        };
        choose(policy, Sampler::Fast, seed, limit, choice, posteriors, &mut Scratch::default())
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
        let snapshot = PosteriorSnapshot { counts: vec![counts] };
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
        fn keys_order_as_values_and_places_do(a: u32, b: u32, i in 0usize..1 << 31, j in 0usize..1 << 31) {
            let (x, y) = (f32::from_bits(a), f32::from_bits(b));
            prop_assert_eq!(key(i, x).cmp(&key(j, y)), y.total_cmp(&x).then(i.cmp(&j)));
            prop_assert_eq!(key(i, x).cmp(&key(j, x)), i.cmp(&j));
            prop_assert_eq!(index(key(i, x)), i);
        }

        #[test]
        fn the_best_are_those_of_a_full_sort(levels in prop::collection::vec(0u16..200, 1..900), k in 0usize..90) {
            let values: Vec<f32> = levels.iter().map(|&level| f32::from(level) / 200.0).collect();
            let mut want: Vec<u64> = (0..values.len()).map(|i| key(i, values[i])).collect();
            want.sort_unstable();
            want.truncate(k);
            let mut got = Vec::new();
            about_best(&mut got, &mut Highest::default(), k.min(values.len()), &values);
            got.sort_unstable();
            got.truncate(k);
            prop_assert_eq!(got, want);
        }

        #[test]
        fn the_best_others_are_the_best_of_the_rest(levels in prop::collection::vec(0u16..90, 1..300), k in 0usize..9, seed: u64) {
            let values: Vec<f32> = levels.iter().map(|&level| f32::from(level)).collect();
            let is_top: Vec<bool> = (0..values.len()).map(|i| mix(seed ^ i as u64).is_multiple_of(9)).collect();
            let mut want: Vec<u64> = (0..values.len()).filter(|&i| !is_top[i]).map(|i| key(i, values[i])).collect();
            let k = k.min(want.len());
            want.sort_unstable();
            want.truncate(k);
            let mut got = Vec::new();
            let tops = is_top.iter().filter(|&&is_top| is_top).count();
            best_others(&mut got, &mut Highest::default(), k, tops, &values, &is_top);
            got.sort_unstable();
            prop_assert_eq!(got, want);
        }

        /// The short way to the best after discounts gives what discounting and sorting everything gives.
        #[test]
        fn the_top_is_the_top_of_all(n in 1usize..700, limit in 1usize..40, seed: u64, decay in 0.1f32..1.0) {
            let mut case = case(n);
            case.categories = (0..n).map(|i| (mix(seed ^ i as u64) % 3) as u16).collect();
            let policy = Policy { category_decay: decay, ..Policy::DEFAULT };
            let means: Vec<f32> = (0..n).map(|i| uniform(seed, i as u64) as f32).collect();
            let mut s = Scratch { means: means.clone(), draws: vec![1.0; n], ..Scratch::default() };
            let limit = limit.min(n);
            mark_top(&policy, limit, &case.items, &case.categories, &mut s);

            let mut all: Vec<u64> = means.iter().enumerate().map(|(i, &mean)| key(i, mean)).collect();
            all.sort_unstable();
            let (mut counts, mut factors) = ([0; 3], [1.0; 3]);
            for place in &mut all {
                let i = index(*place);
                let category = usize::from(case.categories[case.items[i] as usize]);
                counts[category] += 1;
                if counts[category] > (policy.category_share * limit as f32).ceil() as u32 {
                    factors[category] *= decay;
                    *place = key(i, means[i] * factors[category]);
                }
            }
            all.sort_unstable();
            let want: std::collections::BTreeSet<usize> = all[..limit].iter().map(|&key| index(key)).collect();
            let got: std::collections::BTreeSet<usize> = (0..n).filter(|&i| s.is_top[i]).collect();
            prop_assert_eq!(got, want);
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
