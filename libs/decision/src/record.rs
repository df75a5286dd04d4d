//! Codes and encoding of decision records.

use crate::{DecisionRecord, Stage};
use prost::Message as _;

/// Which stages a decision ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Path {
    /// Scored at the edge from a candidate set and the user's state.
    Hit = 0,
    /// Assembled by the origin.
    Miss = 1,
    /// A list of favourites without scoring.
    Favourites = 2,
}

impl Path {
    pub fn from_code(code: u32) -> Option<Self> {
        [Self::Hit, Self::Miss, Self::Favourites].get(code as usize).copied()
    }
}

/// How a slot of the answer was filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slot {
    /// The item is not in the top `limit` by posterior mean.
    pub exploration: bool,
    /// The item was drawn uniformly from the eligible candidates.
    pub uniform: bool,
}

/// Two bits a slot, four slots a byte, first slot lowest.
pub fn pack_slots(slots: &[Slot]) -> Vec<u8> {
    slots
        .chunks(4)
        .map(|four| {
            four.iter()
                .enumerate()
                .fold(0, |byte, (i, s)| byte | (u8::from(s.exploration) | u8::from(s.uniform) << 1) << (2 * i))
        })
        .collect()
}

/// The first `count` slots; what the bytes do not hold is not exploration.
pub fn unpack_slots(bytes: &[u8], count: usize) -> Vec<Slot> {
    (0..count).map(|i| packed_slot(bytes, i)).collect()
}

/// Slots whose scores a record keeps: a long list would take a hit's record beyond its 512 bytes.
pub const SCORED_SLOTS: usize = 32;

/// Two bytes a score, lowest first; 65535 is 1. Of the first [`SCORED_SLOTS`] slots.
pub fn pack_scores(scores: &[f32]) -> Vec<u8> {
    // A score that is not a number becomes 0.
    scores
        .iter()
        .take(SCORED_SLOTS)
        .flat_map(|score| ((score.clamp(0.0, 1.0) * 65_535.0).round() as u16).to_le_bytes())
        .collect()
}

/// The score at `position`; none where the bytes do not hold it.
pub fn packed_score(bytes: &[u8], position: usize) -> Option<f32> {
    let score = bytes.get(2 * position..)?.first_chunk()?;
    Some(f32::from(u16::from_le_bytes(*score)) / 65_535.0)
}

/// The slot at `position`; what the bytes do not hold is not exploration.
pub fn packed_slot(bytes: &[u8], position: usize) -> Slot {
    let bits = bytes.get(position / 4).copied().unwrap_or(0) >> (2 * (position % 4));
    Slot { exploration: bits & 1 != 0, uniform: bits & 2 != 0 }
}

/// The recorded digest of a stage; `None` where it did not run.
pub fn digest_of(record: &DecisionRecord, stage: Stage) -> Option<u64> {
    record.digests.get(stage as usize).copied().filter(|&d| d != 0)
}

pub fn encode_record(record: &DecisionRecord) -> Vec<u8> {
    record.encode_to_vec()
}

/// `None` where the bytes are not a record. From `Bytes` it shares them, from a slice it copies.
pub fn decode_record(bytes: impl prost::bytes::Buf) -> Option<DecisionRecord> {
    DecisionRecord::decode(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_survive_packing() {
        let slots: Vec<_> = (0..11).map(|i| Slot { exploration: i % 3 == 0, uniform: i % 2 == 0 }).collect();
        assert_eq!(unpack_slots(&pack_slots(&slots), 11), slots);
        assert_eq!(unpack_slots(&[], 2), [Slot::default(); 2]);
    }

    #[test]
    fn scores_survive_packing_within_their_step() {
        let scores = [0.0, 0.048, 0.5, 1.0, 2.0, f32::NAN];
        let packed = pack_scores(&scores);
        for (i, score) in [0.0, 0.048, 0.5, 1.0, 1.0, 0.0].into_iter().enumerate() {
            assert!((packed_score(&packed, i).unwrap() - score).abs() < 1e-5, "{score}");
        }
        assert_eq!(packed_score(&packed, 6), None);
    }
}
