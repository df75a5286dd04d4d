//! What visitors may send: from bytes to values that are already valid, or to the fields that are wrong.
//!
//! A well-formed body is parsed once into borrowed fields. Only when that fails is it read again as a tree, to name
//! every field that is wrong.

mod feedback;
mod operator;
mod personalize;

pub(crate) use feedback::{Feedback, FeedbackEvent, RejectedEvent, Visitor};
pub(crate) use operator::{item as item_body, user as user_body};
pub(crate) use personalize::Personalize;

use crate::problem::{FieldError, Naming};
use attune_domain::{Id, IdError};
use serde_json::Value;
use std::borrow::Cow;

/// Query parameters in order of appearance, decoded. `None` where a value is not UTF-8.
pub(crate) fn parse_query(query: &str) -> Option<Vec<(String, String)>> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

/// Collects the errors of a body or a query, each under its field's name.
pub(crate) struct Checker {
    pub(crate) naming: Naming,
    pub(crate) errors: Vec<FieldError>,
}

impl Checker {
    pub(crate) fn new(naming: Naming) -> Self {
        Self { naming, errors: Vec::new() }
    }

    pub(crate) fn fail(&mut self, path: &str, detail: impl Into<String>) {
        self.errors.push(self.naming.error(path, detail));
    }

    pub(crate) fn id(&mut self, path: &str, text: &str) -> Option<Id> {
        match Id::new(text) {
            Ok(id) => Some(id),
            Err(error) => {
                self.fail(path, id_detail(error));
                None
            }
        }
    }

    /// Names every field of an object that is not among `known`.
    pub(crate) fn unknown_fields(&mut self, path: &str, object: &serde_json::Map<String, Value>, known: &[&str]) {
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            // The name comes from outside: it is escaped as RFC 6901 asks, and cut.
            let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            self.fail(&format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), "is not a known field");
        }
    }

    /// A string field of an object; null and absence are the same.
    pub(crate) fn text<'v>(&mut self, path: &str, value: Option<&'v Value>) -> Option<&'v str> {
        match value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.fail(path, "must be a string");
                None
            }
        }
    }
}

pub(crate) fn id_detail(error: IdError) -> &'static str {
    match error {
        IdError::Empty => "must not be empty",
        IdError::TooLong => "must be at most 128 bytes",
        IdError::ControlCharacter => "must not contain control characters",
    }
}

/// Times on the wire: RFC 3339, to the millisecond.
pub(crate) fn parse_time(text: &str) -> Option<attune_domain::UnixMillis> {
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// RFC 3339 in UTC, to the millisecond.
pub(crate) fn format_time(at: attune_domain::UnixMillis) -> Option<String> {
    let format =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000).ok()?.format(format).ok()
}
