//! Log lines as a consumer reads them: every event against its golden line and the schema, and what is written when.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_config::{ByteSize, Secret};
use attune_domain::{Device, Geo, Level, LevelReason, ModelVersion, PageType, RequestId, Tier, Uid};
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

const NOW: i64 = 1_769_682_600_123;
const UID: Uid = Uid([9; 17]);

struct World {
    dir: tempfile::TempDir,
    telemetry: Telemetry,
    guard: Guard,
    clock: Arc<AtomicI64>,
}

fn world(service: &'static str, change: impl FnOnce(&mut TelemetryConfig)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let mut config = TelemetryConfig {
        logs: LogTarget::File(dir.path().join("log.jsonl")),
        log_key: Some(Secret::new("log key")),
        ..TelemetryConfig::default()
    };
    change(&mut config);
    let info = ServiceInfo { service, version: "1.2.3", instance: "pod 1".into() };
    let clock = Arc::new(AtomicI64::new(NOW));
    let time = clock.clone();
    let (telemetry, guard) = Telemetry::start(&config, info, Arc::new(move || time.load(Relaxed))).unwrap();
    World { dir, telemetry, guard, clock }
}

impl World {
    fn text(&self) -> String {
        assert!(self.guard.flush(Duration::from_secs(10)));
        fs::read_to_string(self.dir.path().join("log.jsonl")).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn metric(&self, series: &str) -> f64 {
        let text = encode(std::slice::from_ref(&self.telemetry), Format::Text);
        let line =
            text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{series}: {text}"));
        line.trim().parse().unwrap()
    }
}

/// An id with the given sampling randomness.
fn id(randomness: u64) -> RequestId {
    let mut bytes = [0xab; 16];
    bytes[9..].copy_from_slice(&randomness.to_be_bytes()[1..]);
    RequestId(bytes)
}

const LUCKY: u64 = (1 << 56) - 1;

fn complete(request_id: RequestId) -> PersonalizationComplete {
    PersonalizationComplete {
        request_id,
        user: Some(UID),
        latency_ms: Duration::from_micros(45_250),
        candidates_retrieved: 500,
        candidates_ranked: 100,
        tier: Tier::Edge,
        cache_hit: true,
        level: Level::Fresh,
        device: Device::Mobile,
        geo: Geo::UsWest,
        page_type: PageType::Home,
    }
}

fn root(world: &World, id: RequestId) -> Span {
    world.telemetry.root("edge.personalize", Kind::Server, None, id)
}

/// One of each event.
fn write_all(world: &World) {
    let telemetry = &world.telemetry;
    let request_id = id(LUCKY);
    let latency_ms = Duration::from_millis(3);
    let at_root = |write: &dyn Fn(&Span)| {
        let root = root(world, request_id);
        write(&root);
        root.end();
    };
    at_root(&|root| telemetry.log_request(complete(request_id), root));
    at_root(&|root| {
        telemetry
            .log_request(FeedbackAccepted { request_id, latency_ms, accepted: 3, duplicates: 1, rejected: 0 }, root);
    });
    at_root(&|root| telemetry.log_request(ExplanationGiven { request_id, latency_ms, streamed: false }, root));
    at_root(&|root| {
        let (level, reason) = (Level::Stale, LevelReason::OriginTimeout);
        telemetry.log(&FallbackUsed { request_id, level, reason, page_type: PageType::Cart }, Some(root));
    });
    let (failure, route) = (Failure::Unavailable, Route::Feedback);
    telemetry.log(&RequestFailed { request_id, failure, latency_ms, status_code: 503, route }, None);
    telemetry.log(&RequestShed { request_id, failure: Failure::Overloaded, status_code: 429, route }, None);
    telemetry.log(&Panicked { failure: Failure::Panic, code_place: Location::caller().into() }, None);
    telemetry.log(&ServiceReady { admin_port: 9101 }, None);
    telemetry.log(&ServiceDraining {}, None);
    telemetry.log(&ServiceCutOff { failure: Failure::Undrained }, None);
    telemetry.log(&ServiceStopped {}, None);
    telemetry.log(&BackgroundFailed { failure: Failure::Background }, None);
    telemetry.log(&ModelDeployed { model_version: ModelVersion("425d6ab799911cc0".into()) }, None);
    telemetry.log(&ItemChanged { request_id, offset: 9742, change: ItemChange::Withdrawn }, None);
    telemetry.log(&UserUpdated { request_id, user: Some(UID), attributes: 1, offset: 7 }, None);
    telemetry.log(&UserErased { request_id, user: Some(UID), stores: 5, latency_ms }, None);
    telemetry.log(&CheckpointIgnored { failure: Failure::DataLoss }, None);
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../observability/logs/log-line.schema.json")).unwrap()
}

#[test]
fn every_event_has_a_golden_line_that_the_schema_takes() {
    let world = world("edge", |config| config.sample_edge_only = 1.0);
    write_all(&world);
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let mut written = String::new();
    let mut events = BTreeSet::new();
    for line in world.text().lines() {
        let read: Value = serde_json::from_str(line).unwrap();
        let errors: Vec<_> =
            schema.iter_errors(&read).map(|error| format!("{}: {error}", error.instance_path)).collect();
        assert!(errors.is_empty(), "{line}\n{errors:#?}");
        events.insert(read["event"].as_str().unwrap().to_owned());
        // What differs from run to run: the boot, the spans, the line of this file.
        let mut golden = line.replace(read["boot_id"].as_str().unwrap(), "0123456789abcdef");
        if let Some(span) = read["span_id"].as_str() {
            golden = golden.replace(span, "fedcba9876543210");
        }
        if let Some(at) = read["error"]["at"].as_str() {
            assert!(at.contains("logs.rs:"), "{at}");
            golden = golden.replace(at, "src/x.rs:1");
        }
        written.push_str(&golden);
        written.push('\n');
    }
    assert_eq!(events, EVENTS.iter().map(|event| event.name.to_owned()).collect(), "an event has no golden line");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-lines.jsonl");
    if std::env::var_os("ATTUNE_WRITE_GOLDEN").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    for (got, want) in written.lines().zip(golden.lines()) {
        assert_eq!(got, want);
    }
    assert_eq!(written.lines().count(), golden.lines().count());
}

#[test]
fn the_committed_schema_is_the_one_the_events_make() {
    let again =
        "cargo run --release -p attune-telemetry --example log_schema > observability/logs/log-line.schema.json";
    assert_eq!(schema(), log_schema(), "run: {again}");
}

#[test]
fn the_schema_refuses_what_no_event_says() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let golden =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-lines.jsonl")).unwrap();
    let line: Value = serde_json::from_str(golden.lines().next().unwrap()).unwrap();
    assert!(schema.is_valid(&line));
    type Change = (&'static str, fn(&mut Value));
    let changes: [Change; 10] = [
        ("an unknown field", |line| line["user_id"] = json!("u42")),
        ("a field of another event", |line| line["metrics"]["accepted"] = json!(1)),
        ("an unknown metric", |line| line["metrics"]["score"] = json!(0.5)),
        ("text among the metrics", |line| line["metrics"]["latency_ms"] = json!("45")),
        ("an open list", |line| line["context"]["device"] = json!("my phone")),
        ("an unkeyed digest", |line| line["user_id_hash"] = json!("sha256:abcdef")),
        ("another level", |line| line["level"] = json!("ERROR")),
        ("an unknown event", |line| line["event"] = json!("hello")),
        ("a missing metric", |line| drop(line["metrics"].as_object_mut().unwrap().remove("tier"))),
        ("a span without its trace", |line| drop(line.as_object_mut().unwrap().remove("trace_id"))),
    ];
    for (what, change) in changes {
        let mut changed = line.clone();
        change(&mut changed);
        assert!(!schema.is_valid(&changed), "{what}: {changed}");
    }
}

#[test]
fn a_request_line_waits_for_the_verdict_and_others_do_not() {
    let world = world("edge", |config| config.sample_logs_edge = 0.0);
    for randomness in [0, LUCKY] {
        let root = root(&world, id(randomness));
        world.telemetry.log_request(complete(root.trace_id()), &root);
        assert!(world.lines().is_empty());
        if randomness == LUCKY {
            world.telemetry.log(&ServiceDraining {}, None);
            assert_eq!(world.lines()[0]["event"], "service_draining");
        }
        let span = root.traceparent().span_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        root.end();
        if let Some(line) = world.lines().get(1) {
            assert_eq!(line["span_id"], span);
            assert_eq!(line["trace_id"], id(LUCKY).to_string());
            assert!((line["sampled_weight"].as_f64().unwrap() - 1000.0).abs() < 0.1, "{line}");
        }
    }
    assert_eq!(world.lines().len(), 2);
    let hash = world.telemetry.user_hash(Purpose::Logs, &UID, NOW).to_string();
    assert_eq!(world.lines()[1]["user_id_hash"], hash);
}

/// The weights of the lines of each class add up to the number of its requests, although a line can come through two
/// doors: its trace was kept, or it was among the share of others.
#[test]
fn lines_stand_for_all_requests() {
    for (service, share) in [("edge", 0.001), ("origin", 0.01)] {
        let world = world(service, |config| config.queue_limit = ByteSize(1 << 30));
        let requests = 200_000u64;
        let mut seed = 20_261_125u64;
        println!("seed {seed}");
        for n in 0..requests {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let randomness = (seed ^ (seed >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
            let root = world.telemetry.root("edge.personalize", Kind::Server, None, id(randomness));
            // One in five is a normal trace also at the edge, one in a hundred of them an error.
            if n % 5 == 0 {
                root.client("call").end();
            }
            let failed = n % 100 == 0;
            if failed {
                root.mark(Class::Error);
            }
            let request = PersonalizationComplete { cache_hit: failed, ..complete(root.trace_id()) };
            world.telemetry.log_request(request, &root);
            root.end();
        }
        let lines = world.lines();
        let weight = |line: &Value| line["sampled_weight"].as_f64().unwrap();
        let failed = |line: &&Value| line["metrics"]["cache_hit"] == true;
        assert_eq!(lines.iter().filter(failed).map(weight).sum::<f64>(), requests as f64 / 100.0);
        assert_eq!(lines.iter().filter(failed).map(weight).fold(0.0, f64::max), 1.0);
        let others: Vec<_> = lines.iter().filter(|line| !failed(line)).map(weight).collect();
        let variance: f64 = others.iter().map(|w| w * (w - 1.0)).sum();
        let error = (others.iter().sum::<f64>() - requests as f64 * 0.99).abs() / variance.sqrt();
        assert!(error < 4.0, "{service}: {error} sigma");
        let expected = if service == "edge" { 1.0 / (0.001 + 0.999 * share) } else { 1.0 / (0.01 + 0.99 * share) };
        assert!(others.iter().any(|w| (w - expected).abs() < 0.1), "{service}: {expected}");
        assert_eq!(world.metric("log_dropped_total{reason=\"queue_full\"}"), 0.0);
    }
}

#[test]
fn floods_are_held_back_and_reported() {
    let world = world("edge", |_| {});
    let warn = || world.telemetry.log(&ServiceCutOff { failure: Failure::Undrained }, None);
    (0..1000).for_each(|_| warn());
    world.telemetry.log(&BackgroundFailed { failure: Failure::Background }, None);
    world.clock.fetch_add(100, Relaxed);
    warn();
    let lines = world.lines();
    assert_eq!(lines.len(), 52, "a burst of 50, another event of its own, and one after a while");
    assert_eq!(lines[51]["metrics"]["suppressed"], 950);
    assert_eq!(world.metric("log_suppressed_total"), 950.0);
}

#[test]
fn lines_of_one_boot_are_numbered_without_gaps() {
    let world = world("edge", |config| config.request_logs = RequestLogs::All);
    let info = ServiceInfo { service: "origin", version: "1", instance: "pod 1".into() };
    let other = world.telemetry.service(info);
    for n in 0..50 {
        let root = root(&world, id(n));
        world.telemetry.log_request(complete(id(n)), &root);
        other.log(&ServiceReady { admin_port: 1 }, None);
        root.end();
    }
    let lines = world.lines();
    assert!((0..100).eq(lines.iter().map(|line| line["seq"].as_u64().unwrap())), "two services of one process");
    assert!(lines.iter().all(|line| line["boot_id"] == lines[0]["boot_id"] && line["instance"] == "pod_1"));
}

#[test]
fn below_the_level_and_without_a_target_nothing_is_written() {
    let world = world("edge", |config| config.log_level = LogLevel::Warn);
    let root = root(&world, id(LUCKY));
    world.telemetry.log_request(complete(id(LUCKY)), &root);
    world.telemetry.log(&ServiceStopped {}, None);
    world.telemetry.log(&ServiceCutOff { failure: Failure::Undrained }, Some(&root));
    root.end();
    assert_eq!(world.lines().len(), 1);
    let off = self::world("edge", |config| config.logs = LogTarget::Off);
    off.telemetry.log(&BackgroundFailed { failure: Failure::Background }, None);
    assert!(off.guard.flush(Duration::from_secs(1)));
}

/// A pipe that nobody reads takes 64 KiB and then stops its writer for ever.
#[test]
fn a_stalled_pipe_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("log.pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let limit = 1 << 20;
    let world = world("edge", |config| {
        config.logs = LogTarget::File(pipe.clone());
        config.request_logs = RequestLogs::All;
        config.queue_limit = ByteSize(limit);
    });
    let root = root(&world, id(LUCKY));
    let (done, finished) = std::sync::mpsc::channel();
    let telemetry = world.telemetry.clone();
    let span = root.clone();
    std::thread::spawn(move || {
        (0..20_000).for_each(|_| telemetry.log_request(complete(id(LUCKY)), &span));
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(60)).expect("a request waited for the pipe");
    let dropped = world.metric("log_dropped_total{reason=\"queue_full\"}");
    let line = 640.0;
    let most = limit as f64 / line + 2.0 * 65_536.0 / line;
    assert!(dropped > 20_000.0 - 2.0 * most && dropped < 20_000.0 - limit as f64 / line / 2.0, "{dropped} dropped");
    assert!(!world.guard.flush(Duration::from_millis(1)), "the writer is still stuck");
    drop(reader);
}

#[test]
fn keys_and_shares_are_checked() {
    let start = |change: fn(&mut TelemetryConfig)| {
        let mut config = TelemetryConfig { logs: LogTarget::Off, ..TelemetryConfig::default() };
        change(&mut config);
        let info = ServiceInfo { service: "llm", version: "1", instance: "i".into() };
        Telemetry::start(&config, info, Arc::new(|| NOW)).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(start(|config| config.sample_logs = 2.0).contains("sample_logs"));
    assert!(start(|config| config.sample_logs_edge = -1.0).contains("sample_logs_edge"));
    assert!(start(|config| config.log_key = Some(Secret::new("attune-log-key-1 x"))).contains("telemetry.log_key"));
    let missing = start(|config| config.logs = LogTarget::File(PathBuf::from("/proc/no/such")));
    assert!(missing.contains("/proc/no/such"), "{missing}");
}
