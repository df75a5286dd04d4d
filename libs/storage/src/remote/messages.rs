//! The messages of `attune.storage.v1` and the types of the traits.

use crate::{
    DedupKey, EffectBatch, OutcomeKey, PosteriorChange, Record, Topic, USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER,
};
use attune_domain::{ItemIx, Uid};
use attune_proto::convert::{self, WireError};
use attune_proto::storage::v1 as wire;
use bytes::Bytes;

/// Consumers whose progress a store keeps. A batch names one of them.
const CONSUMERS: [&str; 2] = [USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER];

pub(super) fn topic(name: &str) -> Result<Topic, WireError> {
    Topic::parse(name).ok_or(WireError::new("topic", "is unknown"))
}

pub(super) fn uid_to_wire(uid: &Uid) -> Bytes {
    Bytes::copy_from_slice(&uid.0)
}

pub(super) fn uids(list: &[Bytes]) -> Result<Vec<Uid>, WireError> {
    list.iter().map(|uid| convert::uid(uid)).collect()
}

pub(super) fn record_to_wire(record: Record, dedup: Option<DedupKey>) -> wire::LogRecord {
    let Record { key, value, traceparent } = record;
    let (dedup, dedup_day) = dedup.map(|d| (d.identity, d.day)).unwrap_or_default();
    wire::LogRecord { key, value, traceparent, dedup, dedup_day }
}

pub(super) fn record(r: wire::LogRecord) -> (Record, Option<DedupKey>) {
    let dedup = (!r.dedup.is_empty()).then_some(DedupKey { day: r.dedup_day, identity: r.dedup });
    (Record { key: r.key, value: r.value, traceparent: r.traceparent }, dedup)
}

pub(super) fn outcome_key_to_wire(key: &OutcomeKey) -> wire::OutcomeKey {
    wire::OutcomeKey { day: key.day, request_id: Bytes::copy_from_slice(&key.request.0), item: key.item.0 }
}

pub(super) fn outcome_key(key: &wire::OutcomeKey) -> Result<OutcomeKey, WireError> {
    Ok(OutcomeKey { day: key.day, request: convert::request_id(&key.request_id)?, item: ItemIx(key.item) })
}

pub(super) fn effects_to_wire(batch: &EffectBatch) -> wire::ApplyRequest {
    wire::ApplyRequest {
        consumer: batch.consumer.to_owned(),
        expected_offset: batch.expected_offset,
        next_offset: batch.next_offset,
        users: batch
            .users
            .iter()
            .map(|(uid, state)| wire::UserEffect { uid: uid_to_wire(uid), state: Some(state.into()) })
            .collect(),
        posteriors: batch
            .posteriors
            .iter()
            .map(|c| wire::PosteriorChange { item: c.item.0, at: c.at, impressions: c.impressions, rewards: c.rewards })
            .collect(),
        outcomes: batch
            .outcomes
            .iter()
            .map(|(key, bits)| wire::OutcomeEffect { key: Some(outcome_key_to_wire(key)), bits: (*bits).into() })
            .collect(),
        erased: batch
            .erased
            .iter()
            .map(|(uid, offset)| wire::ErasedUser { uid: uid_to_wire(uid), offset: *offset })
            .collect(),
    }
}

pub(super) fn effects(request: &wire::ApplyRequest) -> Result<EffectBatch, WireError> {
    let consumer = CONSUMERS.into_iter().find(|name| *name == request.consumer);
    let mut batch = EffectBatch {
        consumer: consumer.ok_or(WireError::new("consumer", "is unknown"))?,
        expected_offset: request.expected_offset,
        next_offset: request.next_offset,
        ..Default::default()
    };
    for user in &request.users {
        batch.users.push((convert::uid(&user.uid)?, convert::user_state(user.state.as_ref())?));
    }
    for c in &request.posteriors {
        let finite = c.impressions.is_finite() && c.rewards.is_finite();
        if !finite {
            return Err(WireError::new("posteriors", "must be finite"));
        }
        let (impressions, rewards) = (c.impressions, c.rewards);
        batch.posteriors.push(PosteriorChange { item: ItemIx(c.item), at: c.at, impressions, rewards });
    }
    for outcome in &request.outcomes {
        let key = outcome.key.as_ref().ok_or(WireError::new("outcomes.key", "is missing"))?;
        let bits = u8::try_from(outcome.bits).map_err(|_| WireError::new("outcomes.bits", "must be one byte"))?;
        batch.outcomes.push((outcome_key(key)?, bits));
    }
    for erased in &request.erased {
        batch.erased.push((convert::uid(&erased.uid)?, erased.offset));
    }
    Ok(batch)
}
