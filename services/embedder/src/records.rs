//! Records of the two topics, checked. What is not one becomes a dead record with the reason.

use attune_domain::{LoggedEvent, MAX_ATTRIBUTES, StateVersion, Uid, UnixMillis, UserAttributes};
use attune_proto::convert;
use attune_proto::state::v1 as wire;
use attune_storage::{DedupKey, MAX_RECORD_BYTES, Record, Topic, partition_for, partition_of};
use bytes::Bytes;
use prost::Message as _;

/// A dead record fits into a record whatever it was: what is longer is cut.
const DEAD_VALUE_BYTES: usize = MAX_RECORD_BYTES - (16 << 10);
const DEAD_KEY_BYTES: usize = 1 << 10;
const DEAD_REASON_CHARS: usize = 512;
/// Visitors of one record: some 16 kB.
const MOVED_VISITORS: usize = 512;
/// Longer than any trace context.
const TRACE_CHARS: usize = 128;

/// What stands on `user-events`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum UserRecord {
    Event(Box<LoggedEvent>),
    Erased(Uid),
}

impl UserRecord {
    pub(crate) fn uid(&self) -> Uid {
        match self {
            Self::Event(event) => event.uid,
            Self::Erased(uid) => *uid,
        }
    }

    /// In Unix milliseconds; 0 where the record does not say.
    pub(crate) fn accepted_at(&self) -> u64 {
        match self {
            Self::Event(event) => u64::try_from(event.accepted_at).unwrap_or(0),
            Self::Erased(_) => 0,
        }
    }
}

/// Of a record of `user-events`, 0 also where it is none.
pub(crate) fn accepted_at(value: &Bytes) -> u64 {
    user_record(value).map_or(0, |record| record.accepted_at())
}

pub(crate) fn user_record(value: &Bytes) -> Result<UserRecord, String> {
    let record = wire::UserRecord::decode(value.clone()).map_err(|e| e.to_string())?;
    convert::schema(record.schema).map_err(|e| e.to_string())?;
    let uid = convert::uid(&record.uid).map_err(|e| e.to_string())?;
    match record.record {
        Some(wire::user_record::Record::Event(event)) => {
            let event = convert::event(uid, &event).map_err(|e| e.to_string())?;
            if !event.value.is_finite() {
                return Err("value: must be finite".to_owned());
            }
            Ok(UserRecord::Event(Box::new(event)))
        }
        Some(wire::user_record::Record::Erased(_)) => Ok(UserRecord::Erased(uid)),
        None => Err("record: is missing".to_owned()),
    }
}

/// What was stated about a visitor, and when, where the record says.
pub(crate) type Stated = (UserAttributes, Option<UnixMillis>);

pub(crate) fn user_attributes(value: &Bytes) -> Result<(Uid, Stated), String> {
    let record = wire::UserAttributes::decode(value.clone()).map_err(|e| e.to_string())?;
    convert::schema(record.schema).map_err(|e| e.to_string())?;
    let uid = convert::uid(&record.uid).map_err(|e| e.to_string())?;
    if record.attributes.len() > MAX_ATTRIBUTES {
        return Err(format!("attributes: must be at most {MAX_ATTRIBUTES}"));
    }
    let at = (record.accepted_at != 0).then_some(record.accepted_at);
    Ok((uid, (convert::user_attributes(&record.attributes), at)))
}

/// The record of a visitor lies in the visitor's partition, or two tasks would write one state.
pub(crate) fn belongs(uid: Uid, offset: u64, partitions: u16) -> Result<(), String> {
    let (lies, belongs) = (partition_of(offset), partition_for(&uid.0, partitions));
    if lies == belongs { Ok(()) } else { Err(format!("uid: belongs to partition {belongs}, not {lies}")) }
}

/// A record for the dead topic. The same record twice on one day is a duplicate.
pub(crate) fn dead(topic: Topic, offset: u64, reason: String, record: &Record, day: i64) -> (Record, Option<DedupKey>) {
    let cut = |bytes: &Bytes, most: usize| bytes.slice(..bytes.len().min(most));
    let key = cut(&record.key, DEAD_KEY_BYTES);
    let dead = wire::DeadRecord {
        topic: topic.as_str().to_owned(),
        offset,
        reason: reason.chars().take(DEAD_REASON_CHARS).collect(),
        key: key.clone(),
        value: cut(&record.value, DEAD_VALUE_BYTES),
        value_bytes: record.value.len() as u64,
    };
    let identity = Bytes::from(format!("{}:{offset}", topic.as_str()));
    let trace = record.traceparent.chars().take(TRACE_CHARS).collect();
    (Record { key, value: dead.encode_to_vec().into(), traceparent: trace }, Some(DedupKey { day, identity }))
}

/// Records for `state-versions`: these visitors' states have come so far. Each has the trace of the first of its visitors.
pub(crate) fn versions(moved: &[(Uid, StateVersion, String)]) -> Vec<(Record, Option<DedupKey>)> {
    let visitor = |(uid, version, _): &(Uid, StateVersion, String)| wire::MovedVisitor {
        uid: Bytes::copy_from_slice(&uid.0),
        version: Some((*version).into()),
    };
    let record = |moved: &[(Uid, StateVersion, String)]| {
        let value = wire::StateVersions { visitors: moved.iter().map(visitor).collect() }.encode_to_vec().into();
        let traceparent = moved.first().map(|(.., trace)| trace.clone()).unwrap_or_default();
        (Record { key: Bytes::new(), value, traceparent }, None)
    };
    moved.chunks(MOVED_VISITORS).map(record).collect()
}
