//! What leaves the process: trace lines, log lines, metrics. Read back as any consumer would.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_config::{ByteSize, HumanDuration, Secret};
use attune_domain::{RequestId, Uid};
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::*;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

const NOW: i64 = 1_769_682_600_123;

struct World {
    dir: tempfile::TempDir,
    telemetry: Telemetry,
    guard: Guard,
}

fn world(service: &'static str, change: impl FnOnce(&mut TelemetryConfig)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let mut config = TelemetryConfig {
        traces: Some(dir.path().join("traces.jsonl")),
        logs: LogTarget::File(dir.path().join("log.jsonl")),
        log_key: Some(Secret::new("log key")),
        ..TelemetryConfig::default()
    };
    change(&mut config);
    let info = ServiceInfo { service, version: "1.2.3", instance: "pod-1".into() };
    let (telemetry, guard) = Telemetry::start(&config, info, Arc::new(|| NOW)).unwrap();
    World { dir, telemetry, guard }
}

impl World {
    fn lines(&self, name: &str) -> Vec<Value> {
        assert!(self.guard.flush(Duration::from_secs(5)));
        read(&self.dir.path().join(name))
    }

    fn spans(&self) -> Vec<Value> {
        let lines = self.lines("traces.jsonl");
        let spans = |line: &Value| line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        lines.iter().flat_map(spans).collect()
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a Value> {
    let attributes = span["attributes"].as_array()?;
    attributes.iter().find(|one| one["key"] == key)?["value"].as_object()?.values().next()
}

/// An id with the given sampling randomness.
fn id(randomness: u64) -> RequestId {
    let mut bytes = [0xab; 16];
    bytes[9..].copy_from_slice(&randomness.to_be_bytes()[1..]);
    RequestId(bytes)
}

const LUCKY: u64 = (1 << 56) - 1;

#[test]
fn a_kept_trace_is_a_tree_of_otlp_spans() {
    let world = world("origin", |_| {});
    let parent = TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02").unwrap();
    let root = world.telemetry.root("api.personalize", Kind::Server, Some(parent), RequestId::default());
    root.set("tier", "origin");
    let build = root.child("context.build");
    build.set("feature_count", 12u32);
    build.set("feature_count", 13u32);
    build.end();
    let call = root.client("attune.ranking.v1.RankingService/Rank");
    call.fail("UNAVAILABLE");
    let wire = call.traceparent();
    call.end();
    let forgotten = root.child("never.ended");
    root.event("degraded");
    root.end();
    forgotten.set("late", true);
    drop(forgotten);

    assert_eq!(wire.trace_id, parent.trace_id);
    assert!(wire.sampled(), "an error promotes the trace before it ends");
    assert_eq!(wire.threshold.unwrap().to_string(), "0");

    let line = &world.lines("traces.jsonl")[0];
    let resource = &line["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name").unwrap(), "origin");
    assert_eq!(attribute(resource, "service.version").unwrap(), "1.2.3");
    assert_eq!(attribute(resource, "service.instance.id").unwrap(), "pod-1");

    let spans = world.spans();
    assert_eq!(spans.len(), 4);
    let [root, build, call, unfinished] = &spans[..] else { panic!() };
    for span in &spans {
        assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span["traceState"], "ot=th:0");
        let (begin, end) = (&span["startTimeUnixNano"], &span["endTimeUnixNano"]);
        let nanos = |v: &Value| v.as_str().unwrap().parse::<u64>().unwrap();
        assert!(nanos(begin) <= nanos(end));
        assert!(nanos(begin).abs_diff(NOW as u64 * 1_000_000) < 5_000_000_000);
    }
    assert_eq!(root["name"], "api.personalize");
    assert_eq!(root["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(root["kind"], 2);
    assert_eq!(root["flags"], 0x303);
    assert_eq!(attribute(root, "sampling.reason").unwrap(), "error");
    assert_eq!(attribute(root, "sampling.adjusted_count").unwrap(), 1.0);
    assert_eq!(root["events"][0]["name"], "degraded");
    for child in [build, call, unfinished] {
        assert_eq!(child["parentSpanId"], root["spanId"]);
        assert_eq!(child["flags"], 0x103);
    }
    assert_eq!(attribute(build, "feature_count").unwrap(), "13", "the last value stays");
    assert!(attribute(build, "latency").unwrap().as_f64().unwrap() >= 0.0);
    assert_eq!(call["kind"], 3);
    assert_eq!(call["status"]["code"], 2);
    assert_eq!(attribute(call, "error.type").unwrap(), "UNAVAILABLE");
    assert_eq!(attribute(unfinished, "unfinished").unwrap(), true);
    assert_eq!(attribute(unfinished, "late"), None, "nothing changes after the end");
    let ids: std::collections::HashSet<_> = spans.iter().map(|span| span["spanId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(call["spanId"].as_str().unwrap(), hex(&wire.span_id), "the callee's parent is the CLIENT span");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_class_decides() {
    let world = world("edge", |config| config.slow_after = HumanDuration::millis(20));
    let run = |randomness, work: &dyn Fn(&Span)| {
        let root = world.telemetry.root("edge.personalize", Kind::Server, None, id(randomness));
        work(&root);
        root.end();
    };
    let one_in_fifty = LUCKY / 1000 * 995;
    run(0, &|_| {});
    run(one_in_fifty, &|_| {});
    run(LUCKY, &|_| {});
    run(0, &|root| root.client("call").end());
    run(one_in_fifty, &|root| root.client("call").end());
    run(0, &|root| root.mark(Class::Llm));
    run(0, &|root| root.fail("500"));
    run(0, &|root| root.child("x").fail_softly("NOT_FOUND"));
    run(0, &|_| std::thread::sleep(Duration::from_millis(25)));

    let text = encode(std::slice::from_ref(&world.telemetry), Format::Text);
    for (class, verdict, count) in [
        ("edge_only", "drop", 3),
        ("edge_only", "keep", 1),
        ("normal", "drop", 1),
        ("normal", "keep", 1),
        ("llm", "keep", 1),
        ("error", "keep", 1),
        ("slow", "keep", 1),
        ("slow", "drop", 0),
        ("forced", "keep", 0),
    ] {
        let line = format!("trace_decisions_total{{class=\"{class}\",verdict=\"{verdict}\"}} {count}\n");
        assert!(text.contains(&line), "{line}\n{text}");
    }
    let states: Vec<String> = world.spans().iter().map(|span| span["traceState"].to_string()).collect();
    assert_eq!(states.iter().filter(|state| *state == "\"ot=th:ffbe77\"").count(), 1);
    assert_eq!(states.iter().filter(|state| *state == "\"ot=th:fd70a4\"").count(), 2, "with its CLIENT span");
}

/// Weighted counts are unbiased: the sum of weights of what is kept estimates what there was, class by class.
#[test]
fn kept_traces_stand_for_all() {
    let world = world("edge", |config| config.traces = None);
    let traces = 400_000u64;
    let mut seed = 20_261_121u64;
    println!("seed {seed}");
    let mut weighted = [0.0; 2];
    let mut total = [0.0; 2];
    let mut variance = [0.0; 2];
    for n in 0..traces {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let randomness = (seed ^ (seed >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
        let called = usize::from(n % 5 == 0);
        let policy = [sampling::Threshold::of_share(0.001), sampling::Threshold::of_share(0.01)][called];
        total[called] += 1.0;
        let weight = policy.weight();
        variance[called] += weight - 1.0;
        let root = world.telemetry.root("edge.personalize", Kind::Server, None, id(randomness));
        if called == 1 {
            root.client("call").end();
        }
        root.end();
    }
    let text = encode(std::slice::from_ref(&world.telemetry), Format::Text);
    for (called, class, share) in [(0, "edge_only", 0.001), (1, "normal", 0.01)] {
        let line = format!("trace_decisions_total{{class=\"{class}\",verdict=\"keep\"}} ");
        let kept: f64 = text.split(&line).nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        weighted[called] = kept * sampling::Threshold::of_share(share).weight();
        let sigma = f64::sqrt(variance[called]);
        let error = (weighted[called] - total[called]).abs() / sigma;
        assert!(error < 4.0, "{class}: {} for {} is {error} sigma away", weighted[called], total[called]);
    }
}

#[test]
fn a_caller_that_keeps_is_followed_and_a_dropped_root_is_cancelled() {
    let world = world("ranking", |_| {});
    let trace = "00-0af7651916cd43dd8400000000000001-b7ad6b7169203331";
    let parent = |flags| TraceParent::parse(&format!("{trace}-{flags}")).unwrap();
    world.telemetry.root("ranking.score", Kind::Server, Some(parent("02")), RequestId::default()).end();
    assert_eq!(world.spans().len(), 0);
    world.telemetry.root("ranking.score", Kind::Server, Some(parent("03")), RequestId::default()).end();
    drop(world.telemetry.root("ranking.score", Kind::Server, Some(parent("03")), RequestId::default()));
    let spans = world.spans();
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[1]["events"][0]["name"], "cancelled");
    assert_ne!(spans[0]["spanId"], spans[1]["spanId"]);
}

#[test]
fn bounds_hold_and_are_counted() {
    let world = world("edge", |config| {
        config.sample_edge_only = 1.0;
        config.file_limit = ByteSize(100_000);
    });
    let root = world.telemetry.root("edge.personalize", Kind::Server, None, id(5));
    for _ in 0..1000 {
        let child = root.child("many");
        child.set("k", 1u8);
        child.end();
    }
    for key in KEYS {
        root.set(key, 1u8);
    }
    root.end();
    let spans = world.spans();
    assert_eq!(spans.len(), 256);
    assert!(spans[0]["attributes"].as_array().unwrap().len() <= 16 + 5);
    assert_eq!(attribute(&spans[0], "sampling.dropped_spans").unwrap(), "745");
    let text = encode(std::slice::from_ref(&world.telemetry), Format::Text);
    assert!(text.contains("trace_spans_dropped_total 745\n"), "{text}");

    for _ in 0..200 {
        let root = world.telemetry.root("edge.personalize", Kind::Server, None, id(5));
        (0..20).for_each(|_| root.child("some").end());
        root.end();
        assert!(world.guard.flush(Duration::from_secs(5)));
    }
    let size = |name: &str| std::fs::metadata(world.dir.path().join(name)).unwrap().len();
    assert!(size("traces.jsonl") < 200_000 && size("traces.jsonl.1") < 200_000, "files rotate");
}

const KEYS: [&str; 24] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w",
    "x",
];

/// A uid must not leave in any form: not in logs, traces or metrics, not in hexadecimal, and not the key either.
#[test]
fn the_canary_does_not_sing() {
    let world = world("edge", |config| {
        config.sample_edge_only = 1.0;
        config.log_key = Some(Secret::new("canary-key-7f3a"));
    });
    let uid = Uid(*b"\x01canary-uid-12345");
    let root = world.telemetry.root("edge.personalize", Kind::Server, None, id(5));
    let event = UserErased { request_id: root.trace_id(), user: Some(uid), stores: 5, latency_ms: Duration::ZERO };
    world.telemetry.log(&event, Some(&root));
    root.end();
    assert!(world.guard.flush(Duration::from_secs(5)));
    let files = ["log.jsonl", "traces.jsonl"].map(|name| std::fs::read_to_string(world.dir.path().join(name)).unwrap());
    let everything = files.join("\n")
        + &encode(std::slice::from_ref(&world.telemetry), Format::OpenMetrics)
        + &format!("{uid:?} {event:?} {:?}", world.telemetry);
    assert!(everything.contains("hmac-sha256:w2926:"), "the hash is there");
    for canary in ["canary", &hex(b"canary-uid"), "Y2FuYXJ5", "NhbmFyeS", "jYW5hcnkt"] {
        assert!(!everything.contains(canary), "{canary}");
    }
}

#[test]
fn a_full_queue_drops_and_counts_and_never_waits() {
    let world = world("edge", |config| {
        config.sample_edge_only = 1.0;
        config.queue_limit = ByteSize(1);
    });
    world.telemetry.root("edge.personalize", Kind::Server, None, id(5)).end();
    world.telemetry.log(&ServiceStopped {}, None);
    let text = encode(std::slice::from_ref(&world.telemetry), Format::Text);
    assert!(text.contains("trace_export_dropped_total{lane=\"sampled\",reason=\"queue_full\"} 1\n"));
    assert!(text.contains("log_dropped_total{reason=\"queue_full\"} 1\n"));
}

#[test]
fn span_times_follow_the_wall_clock_when_it_jumps() {
    let wall = Arc::new(AtomicI64::new(NOW));
    let clock = wall.clone();
    let dir = tempfile::tempdir().unwrap();
    let config = TelemetryConfig {
        traces: Some(dir.path().join("traces.jsonl")),
        logs: LogTarget::Off,
        sample_normal: 1.0,
        ..TelemetryConfig::default()
    };
    let info = ServiceInfo { service: "llm", version: "1", instance: "i".into() };
    let (telemetry, guard) = Telemetry::start(&config, info, Arc::new(move || clock.load(Relaxed))).unwrap();
    telemetry.root("llm.reason", Kind::Server, None, id(1)).end();
    wall.store(NOW + 3_600_000, Relaxed);
    telemetry.root("llm.reason", Kind::Server, None, id(1)).end();
    assert!(guard.flush(Duration::from_secs(5)));
    let begin = |line: &Value| {
        let spans = &line["resourceSpans"][0]["scopeSpans"][0]["spans"];
        spans[0]["startTimeUnixNano"].as_str().unwrap().parse::<i64>().unwrap() / 1_000_000
    };
    let lines = read(&dir.path().join("traces.jsonl"));
    for (line, wall) in lines.iter().zip([NOW, NOW + 3_600_000]) {
        assert!((begin(line) - wall).abs() <= 50, "{} is not {wall}", begin(line));
    }
}

#[test]
fn wrong_settings_are_refused() {
    for share in [-0.1, 1.5, f64::NAN, 1e-9] {
        let config = TelemetryConfig { sample_normal: share, logs: LogTarget::Off, ..TelemetryConfig::default() };
        let info = ServiceInfo { service: "llm", version: "1", instance: "i".into() };
        let error = Telemetry::start(&config, info, Arc::new(|| NOW)).err().unwrap();
        assert!(error.to_string().contains("sample_normal"), "{error}");
    }
}
