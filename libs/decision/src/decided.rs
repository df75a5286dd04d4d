//! An answer and how it came about.

use crate::{Digest, Slot, Stage};
use attune_domain::{ItemIx, Reason};

/// A decision, before it becomes a response and a record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decided {
    pub items: Vec<u32>,
    /// Posterior mean of each item, 0 to 1.
    pub scores: Vec<f32>,
    pub reasons: Vec<Reason>,
    pub slots: Vec<Slot>,
    /// By [`Stage`]; 0 where the stage did not run.
    pub digests: [u64; Stage::ALL.len()],
    /// Candidates after filtering.
    pub eligible: u32,
}

/// The first `limit` eligible items of a list of favourites. They are not scored for anybody: a score falls with the
/// rank only.
pub fn favourites(list: &[ItemIx], limit: usize, is_eligible: impl Fn(ItemIx) -> bool) -> Decided {
    let eligible: Vec<u32> = list.iter().filter(|&&item| is_eligible(item)).map(|item| item.0).collect();
    let items: Vec<u32> = eligible.iter().copied().take(limit).collect();
    let mut digests = [0; Stage::ALL.len()];
    digests[Stage::Candidates as usize] = Digest::default().u32s(&eligible).finish();
    digests[Stage::Slate as usize] = Digest::default().u32s(&items).finish();
    Decided {
        scores: (0..items.len()).map(|rank| 1.0 / (rank as f32 + 1.0)).collect(),
        reasons: vec![Reason::Favourite; items.len()],
        slots: vec![Slot::default(); items.len()],
        items,
        digests,
        eligible: eligible.len() as u32,
    }
}
