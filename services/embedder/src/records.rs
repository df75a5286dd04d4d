//! Records of the two topics, checked. What is not one becomes a dead record with the reason.

use attune_domain::{LoggedEvent, MAX_ATTRIBUTES, StateVersion, Uid, UserAttributes};
use attune_proto::convert;
use attune_proto::state::v1 as wire;
use attune_storage::{DedupKey, Record, Topic};
use bytes::Bytes;
use prost::Message as _;

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
}

pub(crate) fn user_record(value: &Bytes) -> Result<UserRecord, String> {
    let record = wire::UserRecord::decode(value.clone()).map_err(|e| e.to_string())?;
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

pub(crate) fn user_attributes(value: &Bytes) -> Result<(Uid, UserAttributes), String> {
    let record = wire::UserAttributes::decode(value.clone()).map_err(|e| e.to_string())?;
    let uid = convert::uid(&record.uid).map_err(|e| e.to_string())?;
    if record.attributes.len() > MAX_ATTRIBUTES {
        return Err(format!("attributes: must be at most {MAX_ATTRIBUTES}"));
    }
    Ok((uid, convert::user_attributes(&record.attributes)))
}

/// A record for the dead topic. The same record twice on one day is a duplicate.
pub(crate) fn dead(topic: Topic, offset: u64, reason: String, record: &Record, day: i64) -> (Record, Option<DedupKey>) {
    let dead = wire::DeadRecord {
        topic: topic.as_str().to_owned(),
        offset,
        reason,
        key: record.key.clone(),
        value: record.value.clone(),
    };
    let identity = Bytes::from(format!("{}:{offset}", topic.as_str()));
    let dead =
        Record { key: record.key.clone(), value: dead.encode_to_vec().into(), traceparent: record.traceparent.clone() };
    (dead, Some(DedupKey { day, identity }))
}

/// A record for `state-versions`: this visitor's state has come so far.
pub(crate) fn version(uid: Uid, version: StateVersion, traceparent: String) -> (Record, Option<DedupKey>) {
    let value = wire::StateVersion::from(version).encode_to_vec().into();
    (Record { key: Bytes::copy_from_slice(&uid.0), value, traceparent }, None)
}
