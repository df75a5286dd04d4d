//! A process that is set to record nothing: no trace, no metric, no per-request line. What else there is to say, it says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_config::ByteSize;
use attune_domain::{Device, Geo, Level, PageType, RequestId, Tier};
use attune_telemetry::catalogue::names::{EDGE_LATENCY, EDGE_USERS, PERSONALIZATION_LEVEL};
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::*;
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_769_682_600_123;

struct Done {
    id: RequestId,
    none: [bool; 3],
    logs: String,
    traces: String,
    metrics: String,
}

/// The same work under one setting; everything that is recorded is kept.
fn work(record: Record, request_logs: RequestLogs) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let (traces, logs) = (dir.path().join("traces.jsonl"), dir.path().join("logs.jsonl"));
    let config = TelemetryConfig {
        record,
        traces: Some(traces.clone()),
        logs: LogTarget::File(logs.clone()),
        request_logs,
        sample_normal: 1.0,
        sample_edge_only: 1.0,
        queue_limit: ByteSize(1 << 20),
        ..TelemetryConfig::default()
    };
    let info = ServiceInfo { service: "edge", version: "1", instance: "i".into() };
    let (telemetry, guard) = Telemetry::start(&config, info, Arc::new(|| NOW)).unwrap();
    let id = telemetry.new_id();
    let mut headers = http::HeaderMap::new();
    headers.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());

    let metrics = telemetry.metrics();
    let (level, users) = (metrics.counter(&PERSONALIZATION_LEVEL, &["0"]), metrics.gauge(&EDGE_USERS, &[]));
    let latency = metrics.histogram(&EDGE_LATENCY, &["sfo"]);
    let admitted = telemetry.admit("edge.personalize", Kind::Server, &headers, id);
    let adopted = telemetry.adopt("api.personalize", Kind::Server, &headers);
    let root = telemetry.root("background", Kind::Internal, None, id);
    for span in [&admitted, &adopted, &root] {
        let child = span.client("call");
        child.set("tier", "edge");
        child.fail("broken");
        child.end();
        latency.observe_in(span, 0.1);
    }
    level.inc();
    users.set(7.0);
    let complete = PersonalizationComplete {
        request_id: id,
        user: None,
        latency_ms: Duration::from_millis(1),
        candidates_retrieved: 1,
        candidates_ranked: 1,
        tier: Tier::Edge,
        cache_hit: true,
        level: Level::Fresh,
        device: Device::Mobile,
        geo: Geo::UsWest,
        page_type: PageType::Home,
    };
    telemetry.log_request(complete, &admitted);
    let shed =
        RequestShed { request_id: id, failure: Failure::Overloaded, status_code: 429, route: Route::Personalize };
    telemetry.log(&shed, None);
    let none = [&admitted, &adopted, &root].map(Span::is_none);
    [admitted, adopted, root].iter().for_each(Span::end);
    assert!(guard.flush(Duration::from_secs(60)));
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let metrics = encode(std::slice::from_ref(&telemetry), Format::Text);
    Done { id, none, logs: read(&logs), traces: read(&traces), metrics }
}

#[test]
fn a_process_that_records_nothing_records_nothing() {
    for request_logs in [RequestLogs::Sampled, RequestLogs::All] {
        let done = work(Record::None, request_logs);
        assert_eq!(done.none, [true; 3]);
        assert_ne!(done.id, RequestId::default(), "requests still have ids");
        assert_eq!(done.traces, "");
        assert!(!done.logs.contains("personalization_complete"), "{}", done.logs);
        assert!(done.logs.contains("request_shed"), "{}", done.logs);
        let samples: Vec<_> = done.metrics.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples, [""; 0]);
    }
}

/// The same work does leave all of that behind where it is recorded, so the test above can fail.
#[test]
fn everything_is_recorded_unless_it_is_set_not_to_be() {
    assert_eq!(TelemetryConfig::default().record, Record::All);
    let done = work(Record::All, RequestLogs::Sampled);
    assert_eq!(done.none, [false; 3]);
    assert_eq!(done.traces.lines().count(), 3, "{}", done.traces);
    assert!(done.logs.contains("personalization_complete") && done.logs.contains("request_shed"), "{}", done.logs);
    assert!(done.metrics.contains("personalization_level_total{level=\"0\"} 1"), "{}", done.metrics);
}
