//! `POST /v1/feedback`: a batch of events, of which the good ones are taken.

use super::{Checker, parse_time};
use crate::problem::{Naming, Problem};
use attune_domain::{EventId, EventKind, Id, ItemId, RequestId, UnixMillis};
use serde::Serialize;
use serde_json::Value;

const MAX_EVENTS: usize = 500;
const MAX_FUTURE: i64 = 5 * 60 * 1000;
const MAX_AGE: i64 = 30 * 24 * 3600 * 1000;
const FIELDS: [&str; 9] =
    ["event_id", "type", "user_id", "session_id", "item_id", "request_id", "position", "occurred_at", "value"];

/// An event that was refused, by its place in the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RejectedEvent {
    pub(crate) index: usize,
    pub(crate) reason: String,
}

/// A valid event, still under the visitor's raw name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FeedbackEvent {
    /// Place in the batch.
    pub(crate) index: usize,
    pub(crate) event_id: EventId,
    pub(crate) kind: EventKind,
    pub(crate) visitor: Visitor,
    pub(crate) item_id: ItemId,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) position: Option<u32>,
    pub(crate) occurred_at: UnixMillis,
    pub(crate) value: f32,
}

/// Who did it: a user, or a session where there is no user.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Visitor {
    User(Id),
    Session(Id),
}

/// The events of a batch that can be taken, and those that cannot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Feedback {
    pub(crate) events: Vec<FeedbackEvent>,
    pub(crate) rejected: Vec<RejectedEvent>,
}

impl Feedback {
    /// A batch of which no event is good is refused whole.
    pub(crate) fn from_body(bytes: &[u8], now: UnixMillis) -> Result<Self, Problem> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| {
            Problem::malformed(format!("not a JSON document (line {}, column {})", e.line(), e.column()))
        })?;
        let mut checker = Checker::new(Naming::Body);
        let Value::Object(object) = &value else {
            checker.fail("", "must be an object");
            return Err(Problem::fields(checker.errors));
        };
        checker.unknown_fields("", object, &["events"]);
        let events = match object.get("events") {
            Some(Value::Array(events)) if (1..=MAX_EVENTS).contains(&events.len()) => events.as_slice(),
            _ => {
                checker.fail("/events", format!("must be an array of 1 to {MAX_EVENTS} events"));
                &[]
            }
        };
        if !checker.errors.is_empty() {
            return Err(Problem::fields(checker.errors));
        }
        let mut feedback = Self::default();
        let mut errors = Vec::new();
        for (index, event) in events.iter().enumerate() {
            let mut checker = Checker::new(Naming::Body);
            match check(index, event, now, &mut checker) {
                Some(event) if checker.errors.is_empty() => feedback.events.push(event),
                _ => {
                    let reason = checker.errors.first().map_or_else(String::new, |e| {
                        let field = e.pointer.as_deref().and_then(|p| p.rsplit('/').next()).unwrap_or_default();
                        format!("{field}: {}", e.detail)
                    });
                    feedback.rejected.push(RejectedEvent { index, reason });
                    errors.extend(checker.errors);
                }
            }
        }
        if feedback.events.is_empty() {
            errors.truncate(20);
            return Err(Problem::fields(errors));
        }
        Ok(feedback)
    }
}

fn check(index: usize, value: &Value, now: UnixMillis, checker: &mut Checker) -> Option<FeedbackEvent> {
    let path = |field: &str| format!("/events/{index}/{field}");
    let Value::Object(object) = value else {
        checker.fail(&format!("/events/{index}"), "must be an object");
        return None;
    };
    checker.unknown_fields(&format!("/events/{index}"), object, &FIELDS);
    let required = |checker: &mut Checker, field: &str| {
        let text = checker.text(&path(field), object.get(field))?.to_owned();
        Some(text)
    };
    let missing = |checker: &mut Checker, field: &str| {
        if matches!(object.get(field), None | Some(Value::Null)) {
            checker.fail(&path(field), "is missing");
        }
    };
    for field in ["event_id", "type", "item_id", "occurred_at"] {
        missing(checker, field);
    }
    let event_id = required(checker, "event_id").and_then(|t| checker.id(&path("event_id"), &t));
    let item_id = required(checker, "item_id").and_then(|t| checker.id(&path("item_id"), &t));
    let kind = required(checker, "type").and_then(|t| {
        let kind = EventKind::parse(&t);
        if kind.is_none() {
            checker.fail(&path("type"), "must be one of impression, click, conversion, dwell, like, hide");
        }
        kind
    });
    let user = required(checker, "user_id").map(|t| checker.id(&path("user_id"), &t).map(Visitor::User));
    let session = required(checker, "session_id").map(|t| checker.id(&path("session_id"), &t).map(Visitor::Session));
    let visitor = match user.or(session) {
        Some(visitor) => visitor,
        None => {
            checker.fail(&path("user_id"), "is missing (or give a session_id)");
            None
        }
    };
    let request_id = required(checker, "request_id").and_then(|t| {
        let id = RequestId::parse(&t);
        if id.is_none() {
            checker.fail(&path("request_id"), "must be 32 hexadecimal digits");
        }
        id
    });
    let position = match object.get("position") {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_u64().filter(|p| *p < 10_000) {
            Some(position) => Some(position as u32),
            None => {
                checker.fail(&path("position"), "must be a whole number below 10000");
                None
            }
        },
    };
    let occurred_at = required(checker, "occurred_at").and_then(|t| {
        let at = parse_time(&t);
        match at {
            None => checker.fail(&path("occurred_at"), "must be an RFC 3339 time"),
            Some(at) if at > now + MAX_FUTURE => {
                checker.fail(&path("occurred_at"), "is more than 5 minutes in the future");
            }
            Some(at) if at < now - MAX_AGE => checker.fail(&path("occurred_at"), "is more than 30 days old"),
            Some(_) => {}
        }
        at
    });
    let value = match object.get("value") {
        None | Some(Value::Null) => Some(1.0),
        Some(value) => match value.as_f64().filter(|v| (0.0..=1e12).contains(v)) {
            Some(v) => Some(v as f32),
            None => {
                checker.fail(&path("value"), "must be a number from 0 to 1e12");
                None
            }
        },
    };
    Some(FeedbackEvent {
        index,
        event_id: event_id?,
        kind: kind?,
        visitor: visitor?,
        item_id: item_id?,
        request_id,
        position,
        occurred_at: occurred_at?,
        value: value?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = 1_769_682_600_000;

    fn event(extra: &str) -> String {
        format!(
            r#"{{"event_id":"e1","type":"click","user_id":"u1","item_id":"318","occurred_at":"2026-01-29T10:30:00Z"{extra}}}"#
        )
    }

    #[test]
    fn good_events_are_taken_and_bad_ones_listed() {
        let body = format!(
            r#"{{"events":[{},{},{},"x"]}}"#,
            event(""),
            event(r#","position":-1"#),
            event("").replace("2026", "3000")
        );
        let feedback = Feedback::from_body(body.as_bytes(), NOW).unwrap();
        assert_eq!(feedback.events.len(), 1);
        let reasons: Vec<_> =
            feedback.rejected.iter().map(|r| (r.index, r.reason.split(':').next().unwrap())).collect();
        assert_eq!(reasons, [(1, "position"), (2, "occurred_at"), (3, "3")]);
    }

    #[test]
    fn a_batch_without_a_good_event_is_refused() {
        for (event, pointer) in [
            (event("").replace("click", "clack"), "/events/0/type"),
            (event("").replace("\"user_id\":\"u1\",", ""), "/events/0/user_id"),
            (event("").replace("\"item_id\":\"318\",", ""), "/events/0/item_id"),
            (event(r#","value":-1"#), "/events/0/value"),
            (event(r#","request_id":"zz""#), "/events/0/request_id"),
            (event("").replace("2026-01", "2025-11"), "/events/0/occurred_at"),
        ] {
            let problem = Feedback::from_body(format!(r#"{{"events":[{event}]}}"#).as_bytes(), NOW).unwrap_err();
            assert_eq!(problem.kind.status(), 422);
            assert_eq!(problem.errors[0].pointer.as_deref(), Some(pointer));
        }
        let many = format!(r#"{{"events":[{}]}}"#, vec![event(""); 501].join(","));
        assert_eq!(
            Feedback::from_body(many.as_bytes(), NOW).unwrap_err().errors[0].pointer.as_deref(),
            Some("/events")
        );
    }
}
