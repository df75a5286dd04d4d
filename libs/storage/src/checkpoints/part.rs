//! Parts and totals in bytes. Any other bytes are nothing, never a panic.

use super::{PartitionTotals, Positions, StorePart};
use crate::OutcomeKey;
use crate::redis::bytes::{Reader, put_signed, put_varint};
use crate::redis::state;
use attune_domain::{ItemIx, RequestId, Uid};

/// Room that is made before what is counted has been read.
const MAX_RESERVED: usize = 4_096;

pub(super) fn encode_part(part: &StorePart) -> Vec<u8> {
    let mut out = Vec::with_capacity(part.users.len() * 512 + part.fences.len() * 25 + part.outcomes.len() * 24);
    put_varint(&mut out, part.users.len() as u64);
    for (uid, user) in &part.users {
        out.extend(uid.0);
        let state = user.as_ref().map(state::encode).unwrap_or_default();
        put_varint(&mut out, state.len() as u64);
        out.extend(state);
    }
    put_varint(&mut out, part.fences.len() as u64);
    for (uid, fence) in &part.fences {
        out.extend(uid.0);
        put_varint(&mut out, *fence);
    }
    put_varint(&mut out, part.outcomes.len() as u64);
    for (key, bits) in &part.outcomes {
        put_signed(&mut out, key.day);
        out.extend(key.request.0);
        put_varint(&mut out, key.item.0.into());
        out.push(*bits);
    }
    out
}

pub(super) fn decode_part(bytes: &[u8]) -> Option<StorePart> {
    let mut from = Reader(bytes);
    let mut part = StorePart::default();
    let count = from.count(bytes.len())?;
    part.users.reserve(count.min(MAX_RESERVED));
    for _ in 0..count {
        let uid = Uid(from.array()?);
        let length = from.count(from.0.len())?;
        let (state, rest) = from.0.split_at_checked(length)?;
        from.0 = rest;
        let state = if state.is_empty() { None } else { Some(state::decode(state).ok()?) };
        part.users.push((uid, state));
    }
    for _ in 0..from.count(bytes.len())? {
        part.fences.push((Uid(from.array()?), from.varint()?));
    }
    for _ in 0..from.count(bytes.len())? {
        let day = from.signed()?;
        let request = RequestId(from.array()?);
        let item = ItemIx(u32::try_from(from.varint()?).ok()?);
        let [bits] = from.array()?;
        part.outcomes.push((OutcomeKey { day, request, item }, bits));
    }
    from.0.is_empty().then_some(part)
}

pub(super) fn encode_totals(totals: &PartitionTotals) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + totals.sums.len() * 28);
    for number in [totals.positions.events, totals.positions.updates, totals.half_life_ms] {
        out.extend(number.to_le_bytes());
    }
    for (item, sum) in &totals.sums {
        out.extend(item.0.to_le_bytes());
        out.extend(sum);
    }
    out
}

pub(super) fn decode_totals(bytes: &[u8]) -> Option<PartitionTotals> {
    let mut from = Reader(bytes);
    let mut number = || from.array().map(u64::from_le_bytes);
    let positions = Positions { events: number()?, updates: number()? };
    let half_life_ms = number()?;
    let (entries, rest) = from.0.as_chunks::<28>();
    let sum = |entry: &[u8; 28]| {
        let (item, sum) = entry.split_first_chunk::<4>()?;
        Some((ItemIx(u32::from_le_bytes(*item)), sum.try_into().ok()?))
    };
    let sums = entries.iter().map(sum).collect::<Option<_>>()?;
    rest.is_empty().then_some(PartitionTotals { positions, half_life_ms, sums })
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_domain::UserState;
    use proptest::prelude::*;

    fn parts() -> impl Strategy<Value = StorePart> {
        let uid = || any::<[u8; 17]>().prop_map(Uid);
        let users = prop::collection::vec((uid(), any::<Option<i64>>(), any::<bool>()), 0..8).prop_map(|users| {
            let user = |watermark| UserState { watermark, ..Default::default() };
            users.into_iter().map(|(uid, watermark, is)| (uid, is.then(|| user(watermark)))).collect()
        });
        let fences = prop::collection::vec((uid(), any::<u64>()), 0..8);
        let key = (any::<i64>(), any::<[u8; 16]>(), any::<u32>()).prop_map(|(day, request, item)| OutcomeKey {
            day,
            request: RequestId(request),
            item: ItemIx(item),
        });
        let outcomes = prop::collection::vec((key, any::<u8>()), 0..8);
        (users, fences, outcomes).prop_map(|(users, fences, outcomes)| StorePart { users, fences, outcomes })
    }

    proptest! {
        #[test]
        fn a_part_comes_back_and_a_cut_one_is_nothing(part in parts(), cut in any::<prop::sample::Index>()) {
            let bytes = encode_part(&part);
            prop_assert_eq!(decode_part(&bytes[..cut.index(bytes.len())]), None);
            prop_assert_eq!(decode_part(&bytes), Some(part));
        }

        #[test]
        fn other_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(decode_part(&bytes));
            drop(decode_totals(&bytes));
        }

        #[test]
        fn totals_come_back(events in any::<u64>(), updates in any::<u64>(), half_life_ms in any::<u64>(),
                            sums in prop::collection::vec((any::<u32>(), any::<[u8; 24]>()), 0..9)) {
            let sums = sums.into_iter().map(|(item, sum)| (ItemIx(item), sum)).collect();
            let totals = PartitionTotals { positions: Positions { events, updates }, half_life_ms, sums };
            prop_assert_eq!(decode_totals(&encode_totals(&totals)), Some(totals));
        }
    }
}
