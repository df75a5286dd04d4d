//! A hit: the cohort's candidates and the visitor's own list, scored for this visitor, sampled and diversified.
//!
//! Hot path. A pure function of its inputs, shared with replay.

use attune_decision::{
    Chosen, Decided, Digest, ItemFacts, Policy, Posteriors, Sampler, ScoredItems, Scratch, Stage, choose,
};
use attune_domain::{Context, Reason, UserState};
use attune_serving::Serving;
use std::cell::RefCell;

/// Everything a hit reads.
#[derive(Clone, Copy)]
pub struct HitInputs<'a> {
    pub serving: &'a Serving,
    pub posteriors: &'a Posteriors,
    pub policy: &'a Policy,
    pub state: &'a UserState,
    /// The part of the user vector that depends on the state alone.
    pub window_vector: &'a [f32],
    /// The visitor's own list; empty for a new visitor.
    pub own: &'a ScoredItems,
    /// The cohort's candidate set.
    pub candidates: &'a ScoredItems,
    pub context: Context,
    pub limit: usize,
    pub seed: u64,
}

#[derive(Default)]
struct Buffers {
    user: Vec<f32>,
    query: attune_inference::Query,
    items: Vec<u32>,
    offsets: Vec<f32>,
    reasons: Vec<Reason>,
    scores: Vec<f32>,
    /// By item number: the round in which it was last taken, so that clearing is free.
    taken_in: Vec<u32>,
    round: u32,
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

    gather(inputs, b);
    b.scores.clear();
    b.scores.resize(b.items.len(), 0.0);
    let rows = serving.items.compact();
    rows.query(&b.user, &mut b.query);
    rows.gather_dot(&b.query, &b.items, &mut b.scores);
    attune_inference::sigmoid_lines(&b.offsets, serving.bundle.edge().slope, &mut b.scores);

    let facts = ItemFacts { base_rates: serving.items.base_rates(), categories: &serving.categories };
    let chosen = choose(
        inputs.policy,
        Sampler::Fast,
        inputs.seed,
        inputs.limit,
        &b.items,
        &b.scores,
        facts,
        inputs.posteriors,
        &mut b.slate,
    );
    answer(b, chosen)
}

/// Own list first, then the cohort's set; no item twice, none that was seen or withdrawn.
fn gather(inputs: &HitInputs<'_>, b: &mut Buffers) {
    let serving = inputs.serving;
    if b.taken_in.len() < serving.items.len() || b.round == u32::MAX {
        b.taken_in.clear();
        b.taken_in.resize(serving.items.len(), 0);
        b.round = 0;
    }
    b.round += 1;
    // What was seen counts as taken: cheaper than a search in it for every candidate.
    let (taken_in, round) = (&mut b.taken_in[..], b.round);
    for seen in inputs.state.window.seen() {
        if let Some(taken) = taken_in.get_mut(seen.item.index()) {
            *taken = round;
        }
    }
    let room = inputs.own.len() + inputs.candidates.len();
    b.items.resize(room, 0);
    b.offsets.resize(room, 0.0);
    b.reasons.resize(room, Reason::Favourite);
    // As slices of their own, so that a write to one cannot be thought to move another.
    let (taken_in, round, available) = (&mut b.taken_in[..], b.round, &serving.available[..]);
    let (items, offsets, reasons) = (&mut b.items[..], &mut b.offsets[..], &mut b.reasons[..]);
    let mut count = 0;
    for list in [inputs.own, inputs.candidates] {
        for ((&item, &offset), &reason) in list.items.iter().zip(&list.offsets).zip(&list.reasons) {
            let (Some(taken), Some(&is_available)) = (taken_in.get_mut(item as usize), available.get(item as usize))
            else {
                continue;
            };
            // Written always and kept or not by the count: whether an item is kept cannot be guessed.
            let kept = (*taken != round) & is_available;
            *taken = round;
            items[count] = item;
            offsets[count] = offset;
            reasons[count] = reason;
            count += usize::from(kept);
        }
    }
    b.items.truncate(count);
    b.offsets.truncate(count);
    b.reasons.truncate(count);
}

fn answer(b: &Buffers, chosen: Chosen) -> Decided {
    let mut digests = [0; Stage::ALL.len()];
    digests[Stage::Context as usize] = Digest::default().f32s(&b.user).finish();
    digests[Stage::Candidates as usize] = Digest::default().u32s(&b.items).f32s(&b.offsets).finish();
    digests[Stage::Score as usize] = Digest::default().f32s(&b.scores).finish();
    digests[Stage::Sample as usize] = chosen.sample_digest;
    digests[Stage::Slate as usize] = chosen.slate_digest;
    let picked = |i: &u32| *i as usize;
    Decided {
        items: chosen.picks.iter().map(|i| b.items[picked(i)]).collect(),
        reasons: chosen
            .picks
            .iter()
            .zip(&chosen.slots)
            .map(|(i, slot)| if slot.exploration { Reason::Exploration } else { b.reasons[picked(i)] })
            .collect(),
        scores: chosen.means.iter().map(|m| m.clamp(0.0, 1.0)).collect(),
        slots: chosen.slots,
        digests,
        eligible: b.items.len() as u32,
    }
}
