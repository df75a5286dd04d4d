//! Problem documents (RFC 9457) and the one table from problem to status.

use attune_domain::RequestId;
use serde::Serialize;

/// Every way a request can be refused. The kind is stable; clients may branch on its URN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    MalformedRequest,
    UnknownRoute,
    UnknownDecision,
    UnknownItem,
    MethodNotAllowed,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidField,
    TooManyRequests,
    Unavailable,
}

impl ProblemKind {
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::MalformedRequest => 400,
            Self::UnknownRoute | Self::UnknownDecision | Self::UnknownItem => 404,
            Self::MethodNotAllowed => 405,
            Self::BodyTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::InvalidField => 422,
            Self::TooManyRequests => 429,
            Self::Unavailable => 503,
        }
    }

    pub(crate) const fn slug(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformed-request",
            Self::UnknownRoute => "unknown-route",
            Self::UnknownDecision => "unknown-decision",
            Self::UnknownItem => "unknown-item",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::BodyTooLarge => "body-too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::InvalidField => "invalid-field",
            Self::TooManyRequests => "too-many-requests",
            Self::Unavailable => "unavailable",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::MalformedRequest => "The request is not well-formed",
            Self::UnknownRoute => "There is no such route",
            Self::UnknownDecision => "The decision log does not hold this request id",
            Self::UnknownItem => "The catalogue does not hold this item",
            Self::MethodNotAllowed => "The route does not take this method",
            Self::BodyTooLarge => "The body is larger than 1 MiB",
            Self::UnsupportedMediaType => "The body must be application/json",
            Self::InvalidField => "A field is missing, unknown or out of range",
            Self::TooManyRequests => "Too many requests from this client",
            Self::Unavailable => "The service cannot take this request now",
        }
    }
}

/// What is wrong with one field. Never holds the value that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FieldError {
    /// RFC 6901 pointer into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
    /// Name of the query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    pub(crate) detail: String,
}

/// Whether fields are named by pointer (a body) or by parameter (a query).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    Body,
    Query,
}

impl Naming {
    /// `path` as in a body: `/context/device`. In a query the last segment is the parameter.
    pub(crate) fn error(self, path: &str, detail: impl Into<String>) -> FieldError {
        let (pointer, parameter) = match self {
            Self::Body => (Some(path.to_owned()), None),
            Self::Query => (None, path.rsplit('/').next().map(str::to_owned)),
        };
        FieldError { pointer, parameter, detail: detail.into() }
    }
}

/// A refusal, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemKind,
    pub(crate) errors: Vec<FieldError>,
    /// Methods the route takes, for 405.
    pub(crate) allow: Option<&'static str>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    trace_id: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind) -> Self {
        Self { kind, errors: Vec::new(), allow: None }
    }

    pub(crate) fn fields(errors: Vec<FieldError>) -> Self {
        Self { kind: ProblemKind::InvalidField, errors, allow: None }
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        let error = FieldError { pointer: Some(String::new()), parameter: None, detail: detail.into() };
        Self { kind: ProblemKind::MalformedRequest, errors: vec![error], allow: None }
    }

    /// Seconds after which to try again, where trying again makes sense.
    pub(crate) fn retry_after(&self) -> Option<u32> {
        matches!(self.kind, ProblemKind::TooManyRequests | ProblemKind::Unavailable).then_some(1)
    }

    pub(crate) fn body(&self, trace_id: RequestId) -> Vec<u8> {
        let document = Document {
            r#type: format!("urn:attune:problem:{}", self.kind.slug()),
            title: self.kind.title(),
            status: self.kind.status(),
            trace_id: trace_id.to_string(),
            errors: &self.errors,
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

impl From<ProblemKind> for Problem {
    fn from(kind: ProblemKind) -> Self {
        Self::new(kind)
    }
}
