//! A hit: the cohort's candidates and the visitor's own list, scored for this visitor, sampled and diversified.
//!
//! Hot path. Pure functions of their inputs, shared with replay.

use attune_decision::{
    Choice, Chosen, Decided, Digest, Policy, Posteriors, Sampler, ScoredItems, Scratch, Stage, choose,
};
use attune_domain::{Context, ItemIx, Reason, UserState};
use attune_serving::Serving;
use rustc_hash::FxHashSet;
use std::cell::RefCell;

/// Everything a hit reads.
#[derive(Clone, Copy)]
pub struct HitInputs<'a> {
    pub serving: &'a Serving,
    pub posteriors: &'a Posteriors,
    pub policy: &'a Policy,
    /// The part of the user vector that depends on the state alone.
    pub window_vector: &'a [f32],
    pub candidates: &'a Candidates,
    pub context: Context,
    pub limit: usize,
    pub seed: u64,
}

/// What a visitor may be shown. It stays the same until the visitor, the cohort's set or the catalogue changes.
#[derive(Debug, Default, PartialEq)]
pub struct Candidates {
    items: Vec<u32>,
    /// Of each item's line, with what of the product does not depend on the context.
    offsets: Vec<f32>,
    /// What one in an item's product stands for, by the scale of the query.
    scales: Vec<f32>,
    base_rates: Vec<f32>,
    reasons: Vec<Reason>,
    digest: u64,
}

impl Candidates {
    /// The visitor's own list first, then the cohort's set; no item twice, none that was seen or withdrawn.
    pub fn new(
        serving: &Serving,
        state: &UserState,
        window_vector: &[f32],
        own: &ScoredItems,
        set: &ScoredItems,
    ) -> Self {
        let rows = serving.items.compact();
        let slope = serving.bundle.edge().slope;
        let mut all = Self::default();
        let mut taken: FxHashSet<u32> = state.window.seen().iter().map(|seen| seen.item.0).collect();
        for list in [own, set] {
            for ((&item, &offset), &reason) in list.items.iter().zip(&list.offsets).zip(&list.reasons) {
                if serving.is_available(ItemIx(item)) && taken.insert(item) {
                    all.items.push(item);
                    all.offsets.push(offset + slope * rows.exact_dot(item, window_vector));
                    all.scales.push(rows.scale(item));
                    all.base_rates.push(serving.items.base_rate(ItemIx(item)));
                    all.reasons.push(reason);
                }
            }
        }
        all.digest = Digest::default().u32s(&all.items).f32s(&all.offsets).finish();
        all
    }
}

#[derive(Default)]
struct Buffers {
    user: Vec<f32>,
    query: attune_inference::Query,
    products: Vec<i32>,
    scores: Vec<f32>,
    slate: Scratch,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Decides a hit.
pub fn decide(inputs: &HitInputs<'_>) -> Decided {
    BUFFERS.with_borrow_mut(|buffers| decide_in(inputs, buffers))
}

fn decide_in(inputs: &HitInputs<'_>, b: &mut Buffers) -> Decided {
    let serving = inputs.serving;
    b.user.clear();
    b.user.extend_from_slice(inputs.window_vector);
    serving.bundle.add_context(inputs.context, &mut b.user);

    let Candidates { items, offsets, scales, base_rates, .. } = inputs.candidates;
    b.products.resize(items.len(), 0);
    b.scores.resize(items.len(), 0.0);
    let rows = serving.items.compact();
    rows.query(&b.user, &mut b.query);
    rows.products(&b.query, items, &mut b.products);
    let slope = serving.bundle.edge().slope * b.query.scale();
    attune_inference::sigmoid_lines(offsets, slope, scales, &b.products, &mut b.scores);

    let choice = Choice { items, scores: &b.scores, base_rates, categories: &serving.categories };
    let (policy, posteriors) = (inputs.policy, inputs.posteriors);
    let chosen = choose(policy, Sampler::Fast, inputs.seed, inputs.limit, choice, posteriors, &mut b.slate);
    answer(inputs.candidates, b, chosen)
}

fn answer(candidates: &Candidates, b: &Buffers, chosen: Chosen) -> Decided {
    let mut digests = [0; Stage::ALL.len()];
    digests[Stage::Context as usize] = Digest::default().f32s(&b.user).finish();
    digests[Stage::Candidates as usize] = candidates.digest;
    digests[Stage::Score as usize] = Digest::default().f32s(&b.scores).finish();
    digests[Stage::Sample as usize] = chosen.sample_digest;
    digests[Stage::Slate as usize] = chosen.slate_digest;
    let picked = |i: &u32| *i as usize;
    Decided {
        items: chosen.picks.iter().map(|i| candidates.items[picked(i)]).collect(),
        reasons: chosen
            .picks
            .iter()
            .zip(&chosen.slots)
            .map(|(i, slot)| if slot.exploration { Reason::Exploration } else { candidates.reasons[picked(i)] })
            .collect(),
        scores: chosen.means.iter().map(|m| m.clamp(0.0, 1.0)).collect(),
        slots: chosen.slots,
        digests,
        eligible: candidates.items.len() as u32,
    }
}
