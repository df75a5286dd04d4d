//! What the origin writes to the log, also used to fill a fresh log from a data set.

use crate::OriginError;
use attune_domain::{ItemUpdate, LoggedEvent, Uid, UnixMillis, UserAttributes};
use attune_proto::{convert, state::v1 as wire};
use attune_storage::{DedupKey, EventLog, Record, Topic};
use bytes::Bytes;
use prost::Message as _;

const DAY_MILLIS: i64 = 86_400_000;

/// The log record of an event.
pub fn event_record(event: &LoggedEvent, traceparent: &str) -> Record {
    let message = wire::UserRecord {
        uid: Bytes::copy_from_slice(&event.uid.0),
        record: Some(wire::user_record::Record::Event(event.into())),
        schema: convert::SCHEMA,
    };
    Record {
        key: Bytes::copy_from_slice(&event.uid.0),
        value: Bytes::from(message.encode_to_vec()),
        traceparent: traceparent.to_owned(),
    }
}

/// An event is (uid, event_id); its identity is kept for the day it occurred on.
pub fn dedup_key(event: &LoggedEvent) -> DedupKey {
    let mut identity = event.uid.0.to_vec();
    identity.extend_from_slice(&blake3::hash(event.event_id.as_str().as_bytes()).as_bytes()[..16]);
    DedupKey { day: event.occurred_at.div_euclid(DAY_MILLIS), identity: Bytes::from(identity) }
}

/// When and how the platform came to know something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub at: UnixMillis,
    /// From somebody's history, not by an operator's door.
    pub imported: bool,
}

/// The log record of an item update.
pub fn item_record(update: &ItemUpdate, accepted: Accepted, traceparent: &str) -> Record {
    let Accepted { at: accepted_at, imported } = accepted;
    Record {
        key: Bytes::copy_from_slice(update.item.id.as_str().as_bytes()),
        value: Bytes::from(wire::ItemUpdate { accepted_at, imported, ..update.into() }.encode_to_vec()),
        traceparent: traceparent.to_owned(),
    }
}

/// The log record of what is said about a visitor.
pub fn attributes_record(uid: Uid, attributes: &UserAttributes, accepted: Accepted, traceparent: &str) -> Record {
    let key = Bytes::copy_from_slice(&uid.0);
    let value = wire::UserAttributes {
        uid: key.clone(),
        attributes: convert::user_attributes_to_wire(attributes),
        accepted_at: accepted.at,
        imported: accepted.imported,
        schema: convert::SCHEMA,
    };
    Record { key, value: Bytes::from(value.encode_to_vec()), traceparent: traceparent.to_owned() }
}

/// Writes updates to the log in one step and gives the offset of the first.
pub async fn append_items(
    log: &dyn EventLog,
    updates: &[ItemUpdate],
    accepted: Accepted,
    traceparent: &str,
) -> Result<u64, OriginError> {
    let records = updates.iter().map(|update| (item_record(update, accepted, traceparent), None)).collect();
    let appended = log.append(Topic::ItemUpdates, records).await?;
    Ok(appended.first().map_or(0, |a| a.offset()))
}
