//! Feedback: from a visitor's batch to durable events, applied to the visitor's state here before the answer leaves.

use crate::Parts;
use crate::problem::{Problem, ProblemKind};
use crate::request::{Feedback, FeedbackEvent, RejectedEvent, Visitor};
use crate::telemetry::EventOutcome;
use attune_domain::{LoggedEvent, Uid, UnixMillis};
use attune_proto::{convert, origin::v1 as origin, state::v1 as wire};
use attune_rpc::{Deadline, Scope};
use attune_telemetry::Span;
use bytes::Bytes;
use serde::Serialize;
use std::collections::HashMap;
use tonic::Status;

/// What became of a batch.
#[derive(Debug, Serialize)]
pub(crate) struct Receipt {
    pub(crate) accepted: usize,
    pub(crate) duplicates: usize,
    pub(crate) rejected: Vec<RejectedEvent>,
    /// Version the visitors' next answers reflect at least.
    #[serde(skip)]
    pub(crate) version: u64,
}

pub(crate) async fn feedback(parts: &Parts, span: &Span, body: &[u8], now: UnixMillis) -> Result<Receipt, Problem> {
    let Feedback { events, rejected } = Feedback::from_body(body, now)?;
    parts.recorder.flush_for(events.iter().filter_map(|e| e.request_id)).await;
    let Ok(results) = made_durable(parts, span, &events).await else {
        parts.metrics.events(EventOutcome::Unavailable, events.len());
        return Err(ProblemKind::Unavailable.into());
    };

    let mut by_visitor: HashMap<Uid, Vec<(u64, LoggedEvent)>> = HashMap::new();
    let mut receipt = Receipt { accepted: 0, duplicates: 0, rejected, version: 0 };
    for (event, result) in events.iter().zip(&results) {
        receipt.version = receipt.version.max(result.next_offset);
        if result.duplicate {
            receipt.duplicates += 1;
            continue;
        }
        receipt.accepted += 1;
        let uid = uid_of(parts, &event.visitor);
        if let Some(Ok(logged)) = result.event.as_ref().map(|logged| convert::event(uid, logged)) {
            by_visitor.entry(uid).or_default().push((result.next_offset, logged));
        }
    }
    let serving = parts.serving.load();
    for (uid, events) in by_visitor {
        parts.users.apply(&serving, uid, &events);
    }
    parts.metrics.events(EventOutcome::Accepted, receipt.accepted);
    parts.metrics.events(EventOutcome::Duplicate, receipt.duplicates);
    parts.metrics.events(EventOutcome::Rejected, receipt.rejected.len());
    Ok(receipt)
}

/// Origins may be replaced meanwhile. What an attempt without an answer made durable is a duplicate in the next one.
async fn made_durable(
    parts: &Parts,
    span: &Span,
    events: &[FeedbackEvent],
) -> Result<Vec<origin::FeedbackResult>, Status> {
    let max = parts.config.feedback_deadline.get();
    let scope = Scope::new(span.clone(), Deadline::after(max));
    let answer = attune_rpc::while_unavailable(&scope, || {
        let records = events.iter().map(|event| to_wire(parts, event)).collect();
        let request = attune_rpc::request(origin::FeedbackRequest { records }, &scope, max);
        let mut origin = parts.origin.clone();
        async move { origin.feedback(request).await }
    });
    Ok(answer.await?.into_inner().results)
}

fn uid_of(parts: &Parts, visitor: &Visitor) -> Uid {
    match visitor {
        Visitor::User(id) => parts.subject_key.uid(id.as_str()),
        Visitor::Session(id) => parts.subject_key.uid_of_session(id.as_str()),
    }
}

fn to_wire(parts: &Parts, event: &FeedbackEvent) -> wire::UserRecord {
    let uid = uid_of(parts, &event.visitor);
    let message = wire::Event {
        event_id: event.event_id.as_str().to_owned(),
        kind: event.kind.code().into(),
        item_id: event.item_id.as_str().to_owned(),
        item: u32::MAX,
        request_id: event.request_id.map(|id| Bytes::copy_from_slice(&id.0)).unwrap_or_default(),
        position: event.position,
        occurred_at: event.occurred_at,
        accepted_at: 0,
        value: event.value,
        imported: false,
        in_decision: false,
        decided: None,
    };
    wire::UserRecord {
        uid: Bytes::copy_from_slice(&uid.0),
        record: Some(wire::user_record::Record::Event(message)),
        schema: convert::SCHEMA,
    }
}
