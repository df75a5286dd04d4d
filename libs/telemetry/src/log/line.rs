//! Rendering one line. Hot path: everything goes straight into one buffer, in the order of the schema.

use super::{LogEvent, LogLevel, Loggable, json};
use crate::{ServiceInfo, UserHash};
use attune_domain::{RequestId, UnixMillis};

/// Takes the fields of one object of a line. Keys are constants; each appears once.
pub struct Fields<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl Fields<'_> {
    pub fn put(&mut self, key: &'static str, value: &impl Loggable) -> &mut Self {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        value.write(self.out);
        self
    }
}

/// What a line says besides its event.
pub(super) struct Frame<'a> {
    pub(super) now: UnixMillis,
    pub(super) source: &'a Source,
    pub(super) sequence: u64,
    pub(super) place: Option<(RequestId, [u8; 8])>,
    pub(super) user: Option<UserHash>,
    /// Lines like this one that were held back before it.
    pub(super) suppressed: u64,
    /// How many lines like this one it stands for.
    pub(super) weight: f64,
}

/// Who writes: the same bytes in every line of a service.
#[derive(Debug)]
pub(crate) struct Source(Vec<u8>);

impl Source {
    pub(crate) fn new(info: &ServiceInfo, boot_id: &str) -> Self {
        let mut out = Vec::new();
        let instance = super::plain(&info.instance);
        let fields: [(&str, &str); 4] = [
            ("service", info.service),
            ("service_version", info.version),
            ("instance", &instance),
            ("boot_id", boot_id),
        ];
        for (key, value) in fields {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            json::text(value, &mut out);
        }
        out.extend_from_slice(b",\"seq\":");
        Self(out)
    }
}

/// `,"severity_number":` and the level, whole.
const fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "\",\"level\":\"TRACE\",\"severity_number\":1",
        LogLevel::Debug => "\",\"level\":\"DEBUG\",\"severity_number\":5",
        LogLevel::Info => "\",\"level\":\"INFO\",\"severity_number\":9",
        LogLevel::Warn => "\",\"level\":\"WARN\",\"severity_number\":13",
        LogLevel::Error => "\",\"level\":\"ERROR\",\"severity_number\":17",
    }
}

/// Appends one line with its line break.
pub(super) fn render<E: LogEvent>(event: &E, frame: &Frame<'_>, out: &mut Vec<u8>) {
    let subject = event.subject();
    out.extend_from_slice(b"{\"timestamp\":\"");
    json::rfc3339(frame.now, out);
    out.extend_from_slice(level(E::SPEC.level).as_bytes());
    out.extend_from_slice(&frame.source.0);
    json::integer(frame.sequence, out);
    if let Some((trace_id, span_id)) = &frame.place {
        out.extend_from_slice(b",\"trace_id\":\"");
        json::hex(&trace_id.0, out);
        out.extend_from_slice(b"\",\"span_id\":\"");
        json::hex(span_id, out);
        out.push(b'"');
    }
    if let Some(user) = &frame.user {
        out.extend_from_slice(b",\"user_id_hash\":\"");
        user.write(out);
        out.push(b'"');
    }
    if let Some(request) = &subject.request_id {
        out.extend_from_slice(b",\"request_id\":\"");
        json::hex(&request.0, out);
        out.push(b'"');
    }
    out.extend_from_slice(b",\"event\":\"");
    out.extend_from_slice(E::SPEC.name.as_bytes());
    out.extend_from_slice(b"\",\"metrics\":{");
    let mut metrics = Fields { out, empty: true };
    event.metrics(&mut metrics);
    if frame.suppressed > 0 {
        metrics.put("suppressed", &frame.suppressed);
    }
    out.extend_from_slice(b"},\"context\":{");
    event.context(&mut Fields { out, empty: true });
    out.push(b'}');
    if let Some(failure) = &subject.failure {
        out.extend_from_slice(b",\"error\":{\"kind\":");
        failure.write(out);
        if let Some(place) = &subject.code_place {
            out.extend_from_slice(b",\"at\":\"");
            out.extend_from_slice(place.file().as_bytes());
            out.push(b':');
            json::integer(place.line(), out);
            out.push(b'"');
        }
        out.push(b'}');
    }
    out.extend_from_slice(b",\"sampled_weight\":");
    json::float(frame.weight, out);
    out.extend_from_slice(b"}\n");
}
