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
    (0..count)
        .map(|i| {
            let bits = bytes.get(i / 4).copied().unwrap_or(0) >> (2 * (i % 4));
            Slot { exploration: bits & 1 != 0, uniform: bits & 2 != 0 }
        })
        .collect()
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
}
