//! Posterior counts as dense columns, looked up once a candidate.

use attune_domain::{ItemIx, PosteriorSnapshot};
use attune_proto::state::v1 as wire;
use prost::Message as _;

/// A snapshot of every item's counts. Immutable; named by the hash its owner gave it.
#[derive(Debug, Clone, Default)]
pub struct Posteriors {
    impressions: Vec<f32>,
    rewards: Vec<f32>,
    hash: [u8; 16],
}

impl Posteriors {
    /// `hash` names the encoded snapshot ([`Posteriors::encode`]).
    pub fn new(snapshot: &PosteriorSnapshot, hash: [u8; 16]) -> Self {
        let len = snapshot.counts.iter().map(|c| c.item.index() + 1).max().unwrap_or(0);
        let (mut impressions, mut rewards) = (vec![0.0; len], vec![0.0; len]);
        for c in &snapshot.counts {
            impressions[c.item.index()] = c.impressions.max(0.0);
            rewards[c.item.index()] = c.rewards.clamp(0.0, c.impressions.max(0.0));
        }
        Self { impressions, rewards, hash }
    }

    /// The immutable object a record refers to. The offset is left out, so that equal counts have equal names.
    pub fn encode(snapshot: &PosteriorSnapshot) -> Vec<u8> {
        wire::PosteriorSnapshot { next_offset: 0, ..snapshot.into() }.encode_to_vec()
    }

    pub fn hash(&self) -> [u8; 16] {
        self.hash
    }

    /// Beta parameters of an item: `prior_rewards` pseudo-rewards at the model's base rate, plus the evidence.
    /// Pseudo-rewards rather than pseudo-impressions, so that rare and frequent items are drawn with the same relative
    /// spread, 1 over the root of `prior_rewards`.
    pub fn beta(&self, item: ItemIx, base_rate: f32, prior_rewards: f32) -> (f32, f32) {
        let impressions = self.impressions.get(item.index()).copied().unwrap_or(0.0);
        let rewards = self.rewards.get(item.index()).copied().unwrap_or(0.0);
        let base = base_rate.clamp(0.005, 0.995);
        (prior_rewards + rewards, prior_rewards * (1.0 - base) / base + impressions - rewards)
    }
}
