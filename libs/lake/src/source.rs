//! Where an export reads: the event log, and the decisions with what they name.

use crate::error::LakeError;
use async_trait::async_trait;
use attune_decision::DecisionRecord;
use attune_domain::{LoggedEvent, RequestId, Uid, UnixMillis, UserAttributes, UserState};
use attune_proto::{convert, state::v1 as wire};
use attune_serving::Serving;
use attune_storage::{Bounds, EventLog, Record, StorageError, Topic, first_offset, partition_of};
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;

const BATCH: usize = 4_096;

/// A platform, running or stopped.
#[async_trait]
pub trait LakeSource: Send + Sync {
    fn log(&self) -> &dyn EventLog;

    /// Decisions at `from` or later that the log still holds, in any order.
    async fn decisions_since(&self, from: UnixMillis) -> Result<Vec<RequestId>, LakeError>;

    /// None where the visitor was erased, or the record is gone.
    async fn decision(&self, id: RequestId) -> Result<Option<DecisionRecord>, LakeError>;

    /// The state that a record names by hash; none where it is gone.
    async fn state(&self, hash: &[u8]) -> Result<Option<UserState>, LakeError>;

    /// The model of that code over the catalogue of that moment; none where the model is gone.
    async fn serving(&self, model: u64, catalogue_offset: u64) -> Result<Option<Arc<Serving>>, LakeError>;
}

/// A record of `user-events`.
pub(crate) enum UserRecord {
    Event(LoggedEvent),
    Erased { uid: Uid, at: UnixMillis },
}

/// None where it was emptied or is none; those are on the dead topic.
pub(crate) fn user_record(record: &Record) -> Option<UserRecord> {
    let decoded = wire::UserRecord::decode(record.value.clone()).ok()?;
    let uid = convert::uid(&decoded.uid).ok()?;
    match decoded.record? {
        wire::user_record::Record::Event(event) => {
            let event = convert::event(uid, &event).ok().filter(|event| event.value.is_finite())?;
            Some(UserRecord::Event(event))
        }
        wire::user_record::Record::Erased(erased) => Some(UserRecord::Erased { uid, at: erased.at }),
    }
}

/// A record of `user-updates`: whose, what, when, and whether imported.
pub(crate) fn attributes_record(record: &Record) -> Option<(Uid, UserAttributes, UnixMillis, bool)> {
    let decoded = wire::UserAttributes::decode(record.value.clone()).ok()?;
    let uid = convert::uid(&decoded.uid).ok()?;
    Some((uid, convert::user_attributes(&decoded.attributes), decoded.accepted_at, decoded.imported))
}

fn failed(topic: Topic) -> impl FnOnce(StorageError) -> LakeError {
    LakeError::source(match topic {
        Topic::ItemUpdates => "item updates",
        Topic::UserUpdates => "user updates",
        _ => "events",
    })
}

/// What there is now, partition by partition.
pub(crate) async fn bounds(log: &dyn EventLog, topic: Topic) -> Result<Vec<Bounds>, LakeError> {
    log.partitions(topic).await.map_err(failed(topic))
}

/// Shows each record from `from` (its partition's start, where that is later) to the end of `bounds`, an emptied one too.
pub(crate) async fn scan(
    log: &dyn EventLog,
    topic: Topic,
    bounds: Bounds,
    from: u64,
    mut see: impl FnMut(u64, &Record) -> Result<(), LakeError> + Send,
) -> Result<(), LakeError> {
    let mut next = from.max(bounds.start).max(first_offset(partition_of(bounds.end)));
    while next < bounds.end {
        let max = BATCH.min(usize::try_from(bounds.end - next).unwrap_or(BATCH));
        let records = log.read(topic, next, max, Duration::from_secs(5)).await.map_err(failed(topic))?;
        let Some((last, _)) = records.last() else {
            let detail = StorageError::Io(format!("no record at offset {next} before the end {}", bounds.end));
            return Err(failed(topic)(detail));
        };
        next = last + 1;
        for (offset, record) in records.iter().filter(|(offset, _)| *offset < bounds.end) {
            see(*offset, record)?;
        }
    }
    Ok(())
}
