//! Posterior counts as dense columns, looked up once a candidate.

use attune_domain::{ItemIx, PosteriorSnapshot};
use attune_proto::state::v1 as wire;
use prost::Message as _;

/// A snapshot of every item's counts. Immutable; named by the hash its owner gave it.
#[derive(Debug, Clone, Default)]
pub struct Posteriors {
    /// Impressions and rewards.
    counts: Vec<[f32; 2]>,
    hash: [u8; 16],
}

impl Posteriors {
    /// `hash` names the encoded snapshot ([`Posteriors::encode`]).
    pub fn new(snapshot: &PosteriorSnapshot, hash: [u8; 16]) -> Self {
        let len = snapshot.counts.iter().map(|c| c.item.index() + 1).max().unwrap_or(0);
        let mut counts = vec![[0.0; 2]; len];
        for c in &snapshot.counts {
            let impressions = c.impressions.max(0.0);
            counts[c.item.index()] = [impressions, c.rewards.clamp(0.0, impressions)];
        }
        Self { counts, hash }
    }

    /// The immutable object a record refers to. The offset is left out, so that equal counts have equal names.
    pub fn encode(snapshot: &PosteriorSnapshot) -> Vec<u8> {
        wire::PosteriorSnapshot::from(snapshot).encode_to_vec()
    }

    pub fn hash(&self) -> [u8; 16] {
        self.hash
    }

    /// Impressions and rewards of an item.
    pub fn counts(&self, item: ItemIx) -> [f32; 2] {
        self.counts.get(item.index()).copied().unwrap_or_default()
    }
}
