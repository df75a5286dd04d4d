//! Events to measure with.

#![allow(unreachable_pub, reason = "each example has its own")]

use attune_domain::{RequestId, Uid};
use attune_proto::state::v1 as wire;
use attune_storage::Record;
use bytes::Bytes;
use prost::Message as _;

pub const NOW: i64 = 1_769_682_600_000;
const ITEMS: u64 = 10_000;

fn mix(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 20
}

/// The `n`th of `events`, by one of `users`.
pub fn record(n: u64, events: u64, users: u64, imported: bool) -> Record {
    let mut uid = [1; 17];
    uid[1..9].copy_from_slice(&(mix(n) % users).to_be_bytes());
    let uid = Uid(uid);
    let item = (mix(n ^ 0x5555) % ITEMS) as u32;
    let mut random = [0; 10];
    random[..8].copy_from_slice(&(n / 10).to_be_bytes());
    let event = wire::Event {
        event_id: format!("event-{n}"),
        kind: if n.is_multiple_of(10) { 1 } else { u32::from(imported) },
        item_id: format!("item-{item}"),
        item,
        request_id: Bytes::copy_from_slice(&RequestId::new(NOW, random).0),
        position: Some(1),
        occurred_at: NOW - events as i64 + n as i64,
        accepted_at: NOW,
        value: 1.0,
        imported,
        in_decision: !imported,
        decided: None,
    };
    let event = wire::user_record::Record::Event(event);
    let value =
        wire::UserRecord { uid: Bytes::copy_from_slice(&uid.0), record: Some(event), schema: 0 }.encode_to_vec();
    Record { key: Bytes::copy_from_slice(&uid.0), value: value.into(), traceparent: String::new() }
}
