//! Telemetry that keeps every trace in a file of the test's own.

use attune_telemetry::{Guard, LogTarget, ServiceInfo, Telemetry, TelemetryConfig, encode};
use std::sync::Arc;

pub struct Recorded {
    pub telemetry: Telemetry,
    guard: Guard,
    traces: tempfile::TempDir,
}

/// Telemetry of a service, all traces kept, no logs. The clock stands at [`crate::world::NOW`].
pub fn recorded(service: &'static str) -> Recorded {
    let traces = tempfile::tempdir().expect("a temporary folder");
    let config = TelemetryConfig {
        traces: Some(traces.path().join("traces.jsonl")),
        logs: LogTarget::Off,
        sample_normal: 1.0,
        sample_edge_only: 1.0,
        ..TelemetryConfig::default()
    };
    let info = ServiceInfo { service, version: "0", instance: "test".into() };
    let (telemetry, guard) =
        Telemetry::start(&config, info, Arc::new(|| crate::world::NOW)).expect("telemetry with a file starts");
    Recorded { telemetry, guard, traces }
}

impl Recorded {
    /// All metrics as Prometheus reads them.
    pub fn metrics(&self) -> String {
        encode::encode(std::slice::from_ref(&self.telemetry), encode::Format::Text)
    }

    /// Ends recording; every span written, as OTLP JSON.
    pub fn spans(self) -> Vec<serde_json::Value> {
        drop(self.guard);
        let lines = std::fs::read_to_string(self.traces.path().join("traces.jsonl")).unwrap_or_default();
        let mut spans = Vec::new();
        for line in lines.lines() {
            let export: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
            for resource in export["resourceSpans"].as_array().into_iter().flatten() {
                for scope in resource["scopeSpans"].as_array().into_iter().flatten() {
                    spans.extend(scope["spans"].as_array().into_iter().flatten().cloned());
                }
            }
        }
        spans
    }
}

/// Value of a span's attribute, as text.
pub fn attribute(span: &serde_json::Value, key: &str) -> Option<String> {
    let attributes = span["attributes"].as_array()?;
    let value = &attributes.iter().find(|attribute| attribute["key"] == key)?["value"];
    value.as_object()?.values().next().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}
