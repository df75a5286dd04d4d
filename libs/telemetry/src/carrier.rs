//! Where trace context is read from and written to: HTTP and gRPC headers, and the byte headers of event-log records.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The headers that carry context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    TraceParent,
    TraceState,
    Baggage,
    /// A signed wish of an operator to keep this one trace.
    Debug,
}

impl Field {
    pub const fn name(self) -> &'static str {
        match self {
            Self::TraceParent => "traceparent",
            Self::TraceState => "tracestate",
            Self::Baggage => "baggage",
            Self::Debug => "x-pz-debug",
        }
    }

    fn header(self) -> HeaderName {
        const TRACEPARENT: HeaderName = HeaderName::from_static(Field::TraceParent.name());
        const TRACESTATE: HeaderName = HeaderName::from_static(Field::TraceState.name());
        const BAGGAGE: HeaderName = HeaderName::from_static(Field::Baggage.name());
        const DEBUG: HeaderName = HeaderName::from_static(Field::Debug.name());
        match self {
            Self::TraceParent => TRACEPARENT,
            Self::TraceState => TRACESTATE,
            Self::Baggage => BAGGAGE,
            Self::Debug => DEBUG,
        }
    }
}

/// Headers that can be read.
pub trait Carrier {
    /// Every value of the field, in order.
    fn values(&self, field: Field) -> impl Iterator<Item = &[u8]>;
}

/// Headers that can be written.
pub trait CarrierMut {
    /// The field has this value and no other; without one it is absent. What is no header text is left out.
    fn replace(&mut self, field: Field, value: Option<&[u8]>);
}

impl Carrier for HeaderMap {
    fn values(&self, field: Field) -> impl Iterator<Item = &[u8]> {
        self.get_all(field.header()).iter().map(HeaderValue::as_bytes)
    }
}

impl CarrierMut for HeaderMap {
    fn replace(&mut self, field: Field, value: Option<&[u8]>) {
        match value.map(HeaderValue::from_bytes) {
            Some(Ok(value)) => drop(self.insert(field.header(), value)),
            Some(Err(_)) | None => drop(self.remove(field.header())),
        }
    }
}

/// Headers of a record on the event log, as Kafka has them: names with bytes.
pub type RecordHeaders = Vec<(String, Bytes)>;

impl Carrier for RecordHeaders {
    fn values(&self, field: Field) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |(name, _)| name == field.name()).map(|(_, value)| &value[..])
    }
}

impl CarrierMut for RecordHeaders {
    fn replace(&mut self, field: Field, value: Option<&[u8]>) {
        self.retain(|(name, _)| name != field.name());
        if let Some(value) = value {
            self.push((field.name().to_owned(), Bytes::copy_from_slice(value)));
        }
    }
}
