//! Kept spans as OTLP JSON: one `ExportTraceServiceRequest` a line. Runs on the writer thread.

use crate::sink::Render;
use crate::span::{Kind, KeptTrace, Record, span_id};
use crate::{AttrValue, ServiceInfo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status};

/// Conventions that the names follow.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";

/// Spans whose duration the observability contract also wants as an attribute, in seconds.
const WITH_LATENCY: [&str; 3] = ["edge.score", "context.build", "retrieval.ann_search"];

/// Says which service a span comes from.
pub(crate) struct Resource(OtlpResource);

impl Resource {
    pub(crate) fn new(info: &ServiceInfo, boot_id: &str) -> Self {
        let attributes = vec![
            text("service.name", info.service),
            text("service.version", info.version),
            text("service.instance.id", &info.instance),
            text("attune.boot_id", boot_id),
        ];
        Self(OtlpResource { attributes, ..OtlpResource::default() })
    }
}

impl Render for KeptTrace {
    fn cost(&self) -> usize {
        let attrs: usize = self.records.iter().map(|record| record.attrs.capacity()).sum();
        size_of::<Self>() + self.records.capacity() * size_of::<Record>() + attrs * size_of::<(&str, AttrValue)>()
    }

    fn render(self, out: &mut Vec<u8>) {
        let start = out.len();
        // Strings, numbers and maps with string keys always serialise; should that change, no half line remains.
        if serde_json::to_writer(&mut *out, &self.into_request()).is_err() {
            out.truncate(start);
            return;
        }
        out.push(b'\n');
    }
}

impl KeptTrace {
    fn into_request(self) -> ExportTraceServiceRequest {
        let resource = self.resource.clone();
        let spans = (0..).zip(&self.records).map(|(index, record)| self.span(index, record)).collect();
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource.0.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(InstrumentationScope { name: "attune".into(), ..Default::default() }),
                    spans,
                    schema_url: SCHEMA.into(),
                }],
                schema_url: SCHEMA.into(),
            }],
        }
    }

    fn span(&self, index: u32, record: &Record) -> Span {
        let ended = record.ended.unwrap_or(record.begun);
        let mut attributes: Vec<KeyValue> = record.attrs.iter().map(|(key, value)| attribute(key, value)).collect();
        if WITH_LATENCY.contains(&record.name) {
            attributes.push(attribute("latency", &AttrValue::Float((ended - record.begun) as f64 / 1e9)));
        }
        if let Some(error) = record.error {
            attributes.push(text("error.type", error));
        }
        if index == 0 {
            attributes.push(text("sampling.reason", self.class.as_str()));
            attributes.push(attribute("sampling.head", &AttrValue::Bool(self.head)));
            attributes.push(attribute("sampling.adjusted_count", &AttrValue::Float(self.threshold.weight())));
            if self.dropped > 0 {
                attributes.push(attribute("sampling.dropped_spans", &AttrValue::Int(self.dropped.into())));
            }
        }
        let remote = index == 0 && self.parent.is_some();
        let parent = match record.parent {
            Some(parent) => span_id(self.seed, parent).to_vec(),
            None => self.parent.map_or(Vec::new(), |parent| parent.span_id.to_vec()),
        };
        let code = if record.error.is_some() { status::StatusCode::Error } else { status::StatusCode::Unset };
        Span {
            trace_id: self.id.0.to_vec(),
            span_id: span_id(self.seed, index).to_vec(),
            trace_state: self.threshold.tracestate(),
            parent_span_id: parent,
            // Bit 8: whether the parent is remote is known; bit 9: it is.
            flags: u32::from(self.flags) | 0x100 | if remote { 0x200 } else { 0 },
            name: record.name.into(),
            kind: kind(record.kind) as i32,
            start_time_unix_nano: self.begun_unix_ns + record.begun,
            end_time_unix_nano: self.begun_unix_ns + ended,
            attributes,
            events: record
                .events
                .iter()
                .map(|(name, at)| span::Event {
                    time_unix_nano: self.begun_unix_ns + at,
                    name: (*name).into(),
                    ..Default::default()
                })
                .collect(),
            status: Some(Status { message: String::new(), code: code as i32 }),
            ..Default::default()
        }
    }
}

fn kind(kind: Kind) -> span::SpanKind {
    match kind {
        Kind::Internal => span::SpanKind::Internal,
        Kind::Server => span::SpanKind::Server,
        Kind::Client => span::SpanKind::Client,
        Kind::Producer => span::SpanKind::Producer,
        Kind::Consumer => span::SpanKind::Consumer,
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    key_value(key, any_value::Value::StringValue(value.into()))
}

fn attribute(key: &str, value: &AttrValue) -> KeyValue {
    let value = match value {
        AttrValue::Bool(value) => any_value::Value::BoolValue(*value),
        AttrValue::Int(value) => any_value::Value::IntValue(*value),
        // JSON has no NaN.
        AttrValue::Float(value) if !value.is_finite() => any_value::Value::StringValue(value.to_string()),
        AttrValue::Float(value) => any_value::Value::DoubleValue(*value),
        AttrValue::Static(value) => any_value::Value::StringValue((*value).into()),
        AttrValue::Shared(value) => any_value::Value::StringValue((**value).into()),
    };
    key_value(key, value)
}

fn key_value(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}
