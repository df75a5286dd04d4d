//! Erasure: a fence on the log that every consumer obeys for ever, and a receipt of what was removed where.

use crate::{OriginError, Parts};
use attune_domain::{Uid, UnixMillis};
use attune_proto::{convert, origin::v1 as origin, state::v1 as wire};
use attune_rpc::Scope;
use attune_storage::{KeyErasure, Record, Topic, USER_EVENTS_CONSUMER};
use bytes::Bytes;
use prost::Message as _;
use std::time::Duration;

const FENCE_WAIT: Duration = Duration::from_secs(5);

pub(crate) async fn erase(parts: &Parts, scope: &Scope, uid: Uid) -> Result<origin::EraseUserResponse, OriginError> {
    let at = (parts.clock)();
    let message = wire::UserRecord {
        uid: Bytes::copy_from_slice(&uid.0),
        record: Some(wire::user_record::Record::Erased(wire::Erased { at })),
        schema: convert::SCHEMA,
    };
    let fence = Record {
        key: Bytes::copy_from_slice(&uid.0),
        value: Bytes::from(message.encode_to_vec()),
        traceparent: scope.span.traceparent().to_text(),
    };
    // Attributes first: a consumer that rebuilds must not meet older ones after the fence.
    let nothing =
        wire::UserAttributes { uid: fence.key.clone(), accepted_at: at, schema: convert::SCHEMA, ..Default::default() };
    let forgotten = Record {
        key: fence.key.clone(),
        value: Bytes::from(nothing.encode_to_vec()),
        traceparent: fence.traceparent.clone(),
    };
    let forgotten = parts.event_log.append(Topic::UserUpdates, vec![(forgotten, None)]).await?;
    let forgotten = forgotten.first().map_or(0, |a| a.offset());
    let appended = parts.event_log.append(Topic::UserEvents, vec![(fence, None)]).await?;
    let offset = appended.first().map_or(0, |a| a.offset());

    let mut retained = None;
    for (topic, before) in [(Topic::UserEvents, offset), (Topic::UserUpdates, forgotten)] {
        let erasure = parts.event_log.erase_key(topic, Bytes::copy_from_slice(&uid.0), before).await?;
        if let KeyErasure::Retained { expires_at } = erasure {
            retained = retained.max(Some(expires_at));
        }
    }
    parts.decisions.log().erase_user(uid).await?;
    parts.decisions.forget_recent();
    parts.views.forget(&uid);
    parts.watchers.erased(uid);
    let applied = parts.features.wait_applied(USER_EVENTS_CONSUMER, offset + 1, FENCE_WAIT).await.unwrap_or(0);
    let done = (parts.clock)();

    let erased = |store: &str| origin::ErasedStore { store: store.to_owned(), erased_at: Some(done), expires_at: None };
    let event_log = match retained {
        None => erased("event_log"),
        Some(expires_at) => origin::ErasedStore { erased_at: None, expires_at, ..erased("event_log") },
    };
    let mut stores = vec![event_log, erased("decision_log"), erased("edge_state")];
    // Not yet applied: the fence is durable, and the store obeys it before anything later of this visitor.
    stores.push(origin::ErasedStore { erased_at: (applied > offset).then_some(done), ..erased("feature_store") });
    if let Some(expires_at) = checkpoints_expire(parts.config.checkpoint_every.get(), done) {
        let expires_at = Some(expires_at);
        stores.push(origin::ErasedStore { erased_at: None, expires_at, ..erased("checkpoints") });
    }
    parts.metrics.user_erased();
    let kept = ["item posteriors (counts without visitors)", "metrics", "model weights, until the next training"];
    Ok(origin::EraseUserResponse { stores, kept_aggregate: kept.map(str::to_owned).to_vec() })
}

/// One may be being written, and the next is due an interval later.
fn checkpoints_expire(every: Duration, now: UnixMillis) -> Option<UnixMillis> {
    let twice = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).saturating_mul(2);
    (twice > 0).then(|| now.saturating_add(twice))
}
