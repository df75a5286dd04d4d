//! Kept records as OpenTelemetry's own span type, and from there by its own conversion as OTLP messages.

use crate::attr::{AttrValue, Given};
use crate::buffers::Subtree;
use crate::context::tracestate;
use crate::settle::KeptTrace;
use crate::trace::span_id;
use crate::{Kind, ServiceInfo};
use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Conventions that the names follow.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";

/// Spans whose duration the observability contract also wants as an attribute, in seconds.
const WITH_LATENCY: [&str; 3] = ["edge.score", "context.build", "retrieval.ann_search"];

/// Says which service a span comes from.
pub(crate) struct Resource {
    attributes: ResourceAttributesWithSchema,
    scope: InstrumentationScope,
}

impl Resource {
    pub(crate) fn new(info: &ServiceInfo, boot_id: &str) -> Self {
        let attributes = [
            KeyValue::new("service.name", info.service),
            KeyValue::new("service.version", info.version),
            KeyValue::new("service.instance.id", info.instance.clone()),
            KeyValue::new("attune.boot_id", boot_id.to_owned()),
        ];
        let resource = opentelemetry_sdk::Resource::builder_empty().with_schema_url(attributes, SCHEMA).build();
        Self {
            attributes: (&resource).into(),
            scope: InstrumentationScope::builder("attune").with_schema_url(SCHEMA).build(),
        }
    }
}

/// One message of all these traces, each service's spans together.
pub(crate) fn request<'a>(traces: impl IntoIterator<Item = &'a Arc<KeptTrace>>) -> ExportTraceServiceRequest {
    let mut services: Vec<(&Arc<Resource>, Vec<SpanData>)> = Vec::new();
    for trace in traces {
        let resource = trace.resource();
        match services.iter_mut().find(|(known, _)| Arc::ptr_eq(known, resource)) {
            Some((_, spans)) => spans.extend(spans_of(trace)),
            None => services.push((resource, spans_of(trace))),
        }
    }
    let group = |(resource, spans): (&Arc<Resource>, _)| group_spans_by_resource_and_scope(spans, &resource.attributes);
    ExportTraceServiceRequest { resource_spans: services.into_iter().flat_map(group).collect() }
}

fn spans_of(trace: &KeptTrace) -> Vec<SpanData> {
    let finished = &trace.finished;
    let buffers = &finished.buffers;
    let ticks = trace.telemetry.ticks();
    let base = SystemTime::UNIX_EPOCH + Duration::from_nanos(trace.begun_unix_ns);
    let at = |tick| base + Duration::from_nanos(ticks.nanos(finished.begun, tick));
    let trace_id = TraceId::from_bytes(finished.id.0);
    let flags = TraceFlags::new(finished.context.random_flag()) | TraceFlags::SAMPLED;
    let caller = finished.context.parent;
    let randomness = caller.and_then(|parent| parent.randomness);
    let state = tracestate(Some(trace.threshold), randomness, finished.context.others.as_deref());
    // Every member was checked on its way in; ours alone is always fine.
    let state: TraceState = state.parse().unwrap_or_default();
    let context = |span| {
        let id = SpanId::from_bytes(span_id(finished.seed, span));
        SpanContext::new(trace_id, id, flags, false, state.clone())
    };

    let mut spans: Vec<SpanData> = Vec::with_capacity(buffers.records.len());
    for (index, record) in (0..=u8::MAX).zip(&buffers.records) {
        let (parent, remote) = match (index, caller) {
            (0, None) => (SpanId::INVALID, false),
            (0, Some(caller)) => (SpanId::from_bytes(caller.span_id), true),
            _ => (SpanId::from_bytes(span_id(finished.seed, record.parent)), false),
        };
        let mut events = SpanEvents::default();
        events.dropped_count = record.lost_events.into();
        spans.push(SpanData {
            span_context: context(index),
            parent_span_id: parent,
            parent_span_is_remote: remote,
            span_kind: kind(record.kind),
            name: record.name.into(),
            start_time: at(record.begun),
            end_time: at(record.ended),
            attributes: Vec::new(),
            dropped_attributes_count: record.lost_attrs.into(),
            events,
            links: SpanLinks::default(),
            status: if record.error.is_some() { Status::error("") } else { Status::Unset },
            instrumentation_scope: trace.resource().scope.clone(),
        });
    }
    for attr in &buffers.attrs {
        let Some(span) = spans.get_mut(usize::from(attr.span)) else { continue };
        let value = value(buffers.value(attr));
        match span.attributes.iter_mut().find(|known| known.key.as_str() == attr.key) {
            Some(known) => known.value = value,
            None => span.attributes.push(KeyValue::new(attr.key, value)),
        }
    }
    for event in &buffers.events {
        if let Some(span) = spans.get_mut(usize::from(event.span)) {
            span.events.events.push(Event::new(event.name, at(event.at), Vec::new(), 0));
        }
    }
    for link in &buffers.links {
        if let Some(span) = spans.get_mut(usize::from(link.span)) {
            let (trace_id, span_id) = (TraceId::from_bytes(link.trace_id.0), SpanId::from_bytes(link.span_id));
            let context = SpanContext::new(trace_id, span_id, TraceFlags::default(), true, TraceState::NONE);
            span.links.links.push(Link::with_context(context));
        }
    }
    for (span, record) in spans.iter_mut().zip(&buffers.records) {
        if WITH_LATENCY.contains(&record.name) {
            let latency = ticks.nanos(record.begun, record.ended) as f64 / 1e9;
            span.attributes.push(KeyValue::new("latency", latency));
        }
        if let Some(error) = record.error {
            span.attributes.push(KeyValue::new("error.type", error));
        }
        if record.unfinished {
            span.attributes.push(KeyValue::new("unfinished", true));
        }
        let subtree = match record.subtree {
            Subtree::None => continue,
            Subtree::Requested => "requested",
            Subtree::Kept => "kept",
            Subtree::Unrecorded => "unrecorded",
        };
        span.attributes.push(KeyValue::new("sampling.subtree", subtree));
    }
    if let Some(root) = spans.first_mut() {
        root.links.dropped_count = buffers.lost_links;
        // A late part belongs to a root that was described.
        if !finished.late {
            describe_root(trace, &mut root.attributes);
        }
    }
    spans
}

/// What back-ends that ignore `tracestate` need to weigh the trace, and what travelled with it.
fn describe_root(trace: &KeptTrace, attributes: &mut Vec<KeyValue>) {
    attributes.push(KeyValue::new("sampling.reason", trace.class.as_str()));
    attributes.push(KeyValue::new("sampling.head", trace.head));
    attributes.push(KeyValue::new("sampling.adjusted_count", trace.threshold.weight()));
    if trace.finished.buffers.lost_spans > 0 {
        attributes.push(KeyValue::new("sampling.dropped_spans", i64::from(trace.finished.buffers.lost_spans)));
    }
    if trace.finished.missing > 0 {
        attributes.push(KeyValue::new("sampling.missing_subtrees", i64::from(trace.finished.missing)));
    }
    for (key, name) in trace.finished.baggage.iter().flat_map(crate::Baggage::iter) {
        attributes.push(KeyValue::new(key.as_str(), name.as_str().to_owned()));
    }
}

fn kind(kind: Kind) -> SpanKind {
    match kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
    }
}

fn value(value: AttrValue<'_>) -> Value {
    match value.0 {
        Given::Bool(value) => value.into(),
        Given::Int(value) => value.into(),
        // JSON has no NaN.
        Given::Float(value) if !value.is_finite() => value.to_string().into(),
        Given::Float(value) => value.into(),
        Given::Static(value) => value.into(),
        Given::Text(value) => value.to_owned().into(),
        Given::Id(value) => value.to_string().into(),
    }
}
