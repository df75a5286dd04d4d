//! Feedback: durable before it is acknowledged, resolved once so that every consumer agrees.

use crate::log_records::{dedup_key, event_record};
use crate::{OriginError, Parts};
use attune_domain::{ItemIx, LoggedEvent, Uid};
use attune_proto::state::v1 as wire;
use attune_rpc::Scope;
use attune_storage::{Appended, Topic};

/// An event as it stands in the log, and whether it had stood there before.
pub(crate) struct Accepted {
    pub(crate) event: LoggedEvent,
    pub(crate) appended: Appended,
}

/// Appends the events in one step. Their `item`, `accepted_at` and what the decision says are settled here.
pub(crate) async fn accept(
    parts: &Parts,
    scope: &Scope,
    mut events: Vec<LoggedEvent>,
) -> Result<Vec<Accepted>, OriginError> {
    let serving = parts.serving.load_full();
    let now = (parts.clock)();
    for event in &mut events {
        event.accepted_at = now;
        event.imported = false;
        event.item = serving.catalogue.find(event.item_id.as_str()).unwrap_or(ItemIx::UNKNOWN);
        event.decided = match event.request_id {
            Some(request_id) if event.item.is_known() => parts.decisions.slot(request_id, event.item).await,
            _ => None,
        };
        event.in_decision = event.decided.is_some();
    }
    let traceparent = scope.span.traceparent().to_text();
    let records = events.iter().map(|event| (event_record(event, &traceparent), Some(dedup_key(event)))).collect();
    let appended = parts.event_log.append(Topic::UserEvents, records).await?;
    for outcome in &appended {
        parts.metrics.event_accepted(matches!(outcome, Appended::Duplicate(_)));
    }
    Ok(events.into_iter().zip(appended).map(|(event, appended)| Accepted { event, appended }).collect())
}

/// An event from the wire, before the origin has decided what only it can decide.
pub(crate) fn from_wire(record: &wire::UserRecord) -> Result<LoggedEvent, OriginError> {
    use attune_proto::convert;
    let uid: Uid = convert::uid(&record.uid)?;
    match &record.record {
        Some(wire::user_record::Record::Event(event)) => Ok(convert::event(uid, event)?),
        _ => Err(convert::WireError::new("records.event", "is missing").into()),
    }
}
