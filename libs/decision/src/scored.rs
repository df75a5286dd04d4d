//! Candidates with scores that outlive the state they were made for.

use attune_domain::{ItemIx, Reason};
use attune_proto::state::v1 as wire;
use bytes::Bytes;
use prost::Message as _;

/// Items with the offset of their scoring line: `logit = offset + slope * dot(user, item)`.
///
/// The offset is the ranking model's logit for the user or cohort the list was built for, minus `slope` times that
/// user's dot product. So for that same user the line gives the ranking model's score back, and for a user that moved
/// since, or another user of the cohort, the score moves with the dot product.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoredItems {
    pub items: Vec<u32>,
    pub offsets: Vec<f32>,
    pub reasons: Vec<Reason>,
}

impl ScoredItems {
    pub fn push(&mut self, item: ItemIx, probability: f32, slope: f32, dot: f32, reason: Reason) {
        let p = probability.clamp(1e-6, 1.0 - 1e-6);
        self.items.push(item.0);
        self.offsets.push((p / (1.0 - p)).ln() - slope * dot);
        self.reasons.push(reason);
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn encode(&self) -> Vec<u8> {
        wire::ScoredItems::from(self).encode_to_vec()
    }
}

impl From<&ScoredItems> for wire::ScoredItems {
    fn from(s: &ScoredItems) -> Self {
        Self {
            items: s.items.clone(),
            offsets: s.offsets.clone(),
            reasons: Bytes::from_iter(s.reasons.iter().map(|r| r.code())),
        }
    }
}

impl TryFrom<&wire::ScoredItems> for ScoredItems {
    type Error = attune_proto::convert::WireError;

    fn try_from(w: &wire::ScoredItems) -> Result<Self, Self::Error> {
        use attune_proto::convert::WireError;
        if w.offsets.len() != w.items.len() || w.reasons.len() != w.items.len() {
            return Err(WireError::new("scored_items", "columns differ in length"));
        }
        let reasons = w.reasons.iter().map(|&c| Reason::from_code(c)).collect::<Option<_>>();
        Ok(Self {
            items: w.items.clone(),
            offsets: w.offsets.clone(),
            reasons: reasons.ok_or(WireError::new("scored_items.reasons", "unknown reason"))?,
        })
    }
}
