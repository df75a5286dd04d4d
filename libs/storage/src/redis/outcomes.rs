//! Counted outcomes: a hash a day, a field a request, and in it the items with their bits.

use super::keys::{Base, bytes, text};
use super::link::Link;
use crate::{OutcomeKey, StorageError};
use attune_domain::{ItemIx, RequestId};
use fred::types::Value;
use std::collections::{BTreeMap, HashMap};

/// Four bytes of item, one of bits. The script knows it too.
const ENTRY: usize = 5;

/// A request's items and bits, by day and request; of two of one item the last stands.
pub(super) fn pack(outcomes: &[(OutcomeKey, u8)]) -> Vec<(i64, RequestId, Vec<u8>)> {
    let mut sorted: BTreeMap<OutcomeKey, u8> = BTreeMap::new();
    sorted.extend(outcomes.iter().copied());
    let mut packed: Vec<(i64, RequestId, Vec<u8>)> = Vec::new();
    for (key, bits) in sorted {
        let entry = [&key.item.0.to_be_bytes()[..], &[bits]].concat();
        match packed.last_mut() {
            Some(last) if (last.0, last.1) == (key.day, key.request) => last.2.extend(entry),
            _ => packed.push((key.day, key.request, entry)),
        }
    }
    packed
}

fn bits_in(packed: &[u8], item: ItemIx) -> Option<u8> {
    let (entries, rest) = packed.as_chunks::<ENTRY>();
    if !rest.is_empty() {
        return None;
    }
    let entry = entries.iter().find(|entry| entry[..4] == item.0.to_be_bytes());
    Some(entry.map_or(0, |entry| entry[4]))
}

/// In the order asked.
pub(super) async fn load(link: &Link, base: &Base, keys: &[OutcomeKey]) -> Result<Vec<u8>, StorageError> {
    let mut by_day: BTreeMap<i64, Vec<RequestId>> = BTreeMap::new();
    for key in keys {
        by_day.entry(key.day).or_default().push(key.request);
    }
    let reads = by_day.into_iter().map(|(day, mut requests)| async move {
        requests.sort_unstable();
        requests.dedup();
        let mut args = vec![base.outcomes(day)];
        args.extend(requests.iter().map(|request| bytes(&request.0)));
        let found = link.ask("HMGET", base.slot, args).await?.into_array();
        Ok::<_, StorageError>(requests.into_iter().zip(found).map(move |(request, found)| ((day, request), found)))
    });
    let found = futures::future::try_join_all(reads).await?;
    let found: HashMap<(i64, RequestId), Value> = found.into_iter().flatten().collect();
    let bits = keys.iter().map(|key| match found.get(&(key.day, key.request)) {
        Some(Value::Null) => Some(0),
        Some(packed) => bits_in(packed.as_bytes()?, key.item),
        None => None,
    });
    bits.collect::<Option<_>>().ok_or_else(|| StorageError::corrupt("outcomes"))
}

/// Items and bits of a request.
pub(super) fn unpack(day: i64, request: &[u8], packed: &[u8]) -> Option<Vec<(OutcomeKey, u8)>> {
    let request = RequestId::from_slice(request)?;
    let (entries, rest) = packed.as_chunks::<ENTRY>();
    let of = |entry: &[u8; ENTRY]| {
        let [a, b, c, d, bits] = *entry;
        (OutcomeKey { day, request, item: ItemIx(u32::from_be_bytes([a, b, c, d])) }, bits)
    };
    rest.is_empty().then(|| entries.iter().map(of).collect())
}

/// As the script takes them.
pub(super) fn args(outcomes: &[(OutcomeKey, u8)], args: &mut Vec<Value>) {
    let packed = pack(outcomes);
    args.push(text(packed.len()));
    for (day, request, items) in packed {
        args.extend([text(day), bytes(&request.0), Value::Bytes(items.into())]);
    }
}
