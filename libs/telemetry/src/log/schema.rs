//! The JSON Schema of a line, made from the closed list of events.

use super::events::{EventSpec, Failure, Stream};
use super::{EVENTS, LogLevel, Loggable, Shape};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) const SERVICES: [&str; 7] = ["edge", "origin", "retrieval", "ranking", "bandit", "llm", "embedder"];

/// Draft 2020-12. Every line that a service writes is valid under it, and names no field that it does not.
pub fn log_schema() -> Value {
    let mut properties = Map::new();
    let fields: [(&str, Value); 17] = [
        ("timestamp", text(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$", "UTC, milliseconds.")),
        ("level", words(LogLevel::ALL.map(LogLevel::as_str).to_vec())),
        ("severity_number", json!({"enum": LogLevel::ALL.map(LogLevel::number), "description": "OpenTelemetry's."})),
        ("service", words(SERVICES.to_vec())),
        ("service_version", text("^[0-9A-Za-z.+-]{1,32}$", "Of the program.")),
        ("instance", text("^[A-Za-z0-9._:/-]{1,64}$", "Which copy of the service.")),
        ("boot_id", text("^[0-9a-f]{16}$", "One start of a process.")),
        (
            "seq",
            json!({"type": "integer", "minimum": 0, "description": "Counts the lines of a boot: a gap is a loss."}),
        ),
        ("trace_id", text("^[0-9a-f]{32}$", "W3C.")),
        ("span_id", text("^[0-9a-f]{16}$", "W3C.")),
        (
            "user_id_hash",
            text("^hmac-sha256:(w[0-9]+:[A-Za-z0-9_-]{22}|none:-)$", "Keyed, and another one every week."),
        ),
        ("request_id", text("^[0-9a-f]{32}$", "Names the answer and its decision record.")),
        ("event", words(EVENTS.iter().map(|event| event.name).collect())),
        ("metrics", object(union(|event| event.metrics, &[("suppressed", Shape::Integer)]))),
        ("context", object(union(|event| event.context, &[]))),
        ("error", error()),
        (
            "sampled_weight",
            json!({"type": "number", "minimum": 1, "description": "How many lines like this one it stands for."}),
        ),
    ];
    for (name, field) in fields {
        properties.insert(name.into(), field);
    }
    let optional = ["trace_id", "span_id", "user_id_hash", "request_id", "error"];
    let required: Vec<_> = properties.keys().filter(|name| !optional.contains(&name.as_str())).cloned().collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:attune:log-line",
        "title": "A log line of Attune",
        "description": "Made by `cargo run --release -p attune-telemetry --example log_schema -- observability` from libs/telemetry/src/log/events.rs.",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
        "dependentRequired": {"trace_id": ["span_id"], "span_id": ["trace_id"]},
        "allOf": EVENTS.iter().map(|event| one(event)).collect::<Vec<_>>(),
        "x-streams": Stream::ALL.iter().map(|stream| {
            let names: Vec<_> = EVENTS.iter().filter(|event| event.stream == *stream).map(|event| event.name).collect();
            (stream.topic().to_owned(), json!(names))
        }).collect::<Map<_, _>>(),
    })
}

/// What holds for lines of one event.
fn one(event: &EventSpec) -> Value {
    let names = |fields: &[(&'static str, Shape)]| fields.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let (metrics, context) = (names(event.metrics), names(event.context));
    let mut measured = metrics.clone();
    if event.level >= LogLevel::Warn {
        measured.push("suppressed");
    }
    let has = |part| event.subject.contains(&part);
    let mut required = Vec::new();
    let mut properties = json!({
        "level": {"const": event.level.as_str()},
        "severity_number": {"const": event.level.number()},
        "metrics": {"required": metrics, "propertyNames": {"enum": measured}},
        "context": {"required": context, "propertyNames": {"enum": context}},
    });
    // An empty list cannot be an enum.
    for (part, allowed) in [("metrics", measured.is_empty()), ("context", context.is_empty())] {
        if allowed {
            properties[part] = json!({"maxProperties": 0});
        }
    }
    for (part, field) in [("request_id", "request_id"), ("failure", "error")] {
        if has(part) {
            required.push(field);
        } else {
            properties[field] = json!(false);
        }
    }
    if !has("user") {
        properties["user_id_hash"] = json!(false);
    }
    json!({
        "if": {"properties": {"event": {"const": event.name}}, "required": ["event"]},
        "then": {"properties": properties, "required": required},
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "properties": {
            "kind": field(Failure::SHAPE),
            "at": text("^[A-Za-z0-9._:/-]{1,75}$", "Where in our code."),
        },
        "required": ["kind"],
        "additionalProperties": false,
    })
}

/// The fields of all events. One name has one shape wherever it appears.
fn union(
    of: impl Fn(&EventSpec) -> &'static [(&'static str, Shape)],
    more: &[(&'static str, Shape)],
) -> BTreeMap<&'static str, Value> {
    let all = EVENTS.iter().flat_map(|event| of(event)).chain(more);
    all.map(|(name, shape)| (*name, field(*shape))).collect()
}

fn object(properties: BTreeMap<&'static str, Value>) -> Value {
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn field(shape: Shape) -> Value {
    match shape {
        Shape::Integer => json!({"type": "integer"}),
        Shape::Number => json!({"type": "number"}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Words(list) => words(list()),
        Shape::Text(pattern) => json!({"type": "string", "pattern": pattern}),
    }
}

fn words(list: Vec<&'static str>) -> Value {
    json!({ "enum": list })
}

fn text(pattern: &str, description: &str) -> Value {
    json!({"type": "string", "pattern": pattern, "description": description})
}
