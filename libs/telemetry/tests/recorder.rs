//! The recorder through its handles: bounds, memory that is used again, futures that share a trace, and the same tree as
//! the OpenTelemetry SDK builds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_config::HumanDuration;
use attune_domain::RequestId;
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::*;
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span as OtlpSpan;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_769_682_600_123;

struct World {
    telemetry: Telemetry,
    guard: Guard,
    dir: tempfile::TempDir,
}

/// Everything is kept, nothing is slow.
fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let config = TelemetryConfig {
        traces: Some(dir.path().join("traces.jsonl")),
        logs: LogTarget::Off,
        sample_normal: 1.0,
        sample_edge_only: 1.0,
        slow_after: HumanDuration::secs(3600),
        queue_limit: attune_config::ByteSize(1 << 30),
        ..TelemetryConfig::default()
    };
    let info = ServiceInfo { service: "origin", version: "1", instance: "i".into() };
    let (telemetry, guard) = Telemetry::start(&config, info, Arc::new(|| NOW)).unwrap();
    World { telemetry, guard, dir }
}

impl World {
    fn root(&self) -> Span {
        self.telemetry.root("root", Kind::Server, None, self.telemetry.new_id())
    }

    /// Every trace written so far, read with the official types.
    fn traces(&self) -> Vec<Vec<OtlpSpan>> {
        assert!(self.guard.flush(Duration::from_secs(60)));
        let text = std::fs::read_to_string(self.dir.path().join("traces.jsonl")).unwrap_or_default();
        let spans = |line: &str| {
            let message: ExportTraceServiceRequest = serde_json::from_str(line).unwrap();
            let scopes = message.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            scopes.flat_map(|scope| scope.spans).collect()
        };
        text.lines().map(spans).collect()
    }
}

fn attributes(span: &OtlpSpan) -> BTreeMap<String, String> {
    let text = |value: &Any| match value {
        Any::StringValue(text) => text.clone(),
        Any::BoolValue(value) => value.to_string(),
        Any::IntValue(value) => value.to_string(),
        Any::DoubleValue(value) => format!("{value:?}"),
        other => panic!("{other:?}"),
    };
    let value = |one: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        text(one.value.as_ref().unwrap().value.as_ref().unwrap())
    };
    span.attributes.iter().map(|one| (one.key.clone(), value(one))).collect()
}

const KEYS: [&str; 20] =
    ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];

#[test]
fn every_bound_holds_and_says_so() {
    let world = world();
    let root = world.root();
    for key in KEYS {
        root.set(key, 1i64);
    }
    root.set("b", 2i64);
    (0..40).for_each(|_| root.event("tick"));
    (0..200u8).for_each(|n| root.link(TraceParent { span_id: [n + 1; 8], ..root.traceparent() }));
    let long = Name::new(&"n".repeat(64)).unwrap();
    for _ in 0..300 {
        let child = root.child("many");
        KEYS.iter().take(10).for_each(|key| child.set(key, &long));
        child.end();
    }
    root.end();
    let spans = world.traces().remove(0);
    assert_eq!(spans.len(), 256);
    let root = &spans[0];
    let sampling = |key: &String| key.starts_with("sampling.");
    let own = attributes(root);
    assert_eq!(own.keys().filter(|key| !sampling(key)).count(), 16);
    assert_eq!((own["b"].as_str(), root.dropped_attributes_count), ("2", 4), "a known key is replaced even when full");
    assert_eq!((root.events.len(), root.dropped_events_count), (16, 24));
    assert_eq!((root.links.len(), root.dropped_links_count), (128, 72));
    assert_eq!(own["sampling.dropped_spans"], "45");
    let bytes: usize = spans.iter().flat_map(attributes).map(|(key, value)| key.len() + value.len()).sum();
    let lost: u32 = spans.iter().map(|span| span.dropped_attributes_count).sum();
    assert!(bytes < 20 << 10 && lost > 2000, "{bytes} bytes, {lost} lost");
    assert_eq!(attributes(&spans[1]).len(), 10);
    let text = encode(std::slice::from_ref(&world.telemetry), Format::Text);
    assert!(text.contains("trace_spans_dropped_total 45\n"), "{text}");
}

/// Eight threads make, mix and drop traces; each trace has its own mark on everything, and nobody else's.
#[test]
fn memory_used_again_never_shows_another_trace() {
    let world = world();
    let stale = std::sync::Mutex::new(Vec::<(Span, i64)>::new());
    std::thread::scope(|scope| {
        for thread in 0..8i64 {
            let (world, stale) = (&world, &stale);
            scope.spawn(move || {
                for n in 0..600i64 {
                    let mark = thread * 1000 + n;
                    let root = world.root();
                    root.set("mark", mark);
                    root.set("count", mark % 40 + 1);
                    for child in 0..mark % 40 {
                        let span = root.child("child");
                        span.set("mark", mark);
                        span.event("x");
                        if child % 3 == 0 {
                            span.end();
                        }
                        if child == 1 {
                            stale.lock().unwrap().push((span, mark));
                        }
                    }
                    // What other threads left behind belongs to traces that have ended, or soon will.
                    let left = {
                        let mut stale = stale.lock().unwrap();
                        (stale.len() > 20).then(|| stale.remove(0))
                    };
                    if let Some((span, mark)) = left {
                        span.set("mark", mark);
                        span.child("late").set("mark", mark);
                        span.end();
                    }
                    if n % 5 == 0 { drop(root) } else { root.end() }
                }
            });
        }
    });
    drop(stale);
    let (late, traces): (Vec<_>, Vec<_>) = world.traces().into_iter().partition(|spans| spans[0].name == "late");
    assert_eq!(traces.len(), 8 * 600);
    // What begins after the end of its trace leaves by itself, and says where it belongs.
    let whose: HashMap<_, _> = traces.iter().map(|spans| (&spans[0].trace_id, spans)).collect();
    for span in late.iter().flatten() {
        let spans = whose[&span.trace_id];
        assert_eq!(attributes(span)["mark"], attributes(&spans[0])["mark"]);
        assert!(spans.iter().any(|parent| parent.span_id == span.parent_span_id));
    }
    let mut ids = HashSet::new();
    for spans in &traces {
        let root = attributes(&spans[0]);
        assert!(ids.insert(root["mark"].clone()));
        let named = spans.iter().filter(|span| span.name != "late").count();
        assert_eq!(named.to_string(), root["count"]);
        for span in spans {
            assert_eq!(span.trace_id, spans[0].trace_id);
            let attributes = attributes(span);
            assert!(attributes.get("mark").is_none_or(|mark| *mark == root["mark"]), "{attributes:?} in {root:?}");
            let events = if span.name == "child" { 1 } else { span.events.len() };
            assert_eq!(span.events.len(), events);
        }
    }
    let spans: Vec<_> = traces.iter().chain(&late).flatten().map(|span| span.span_id.clone()).collect();
    assert_eq!(spans.iter().collect::<HashSet<_>>().len(), spans.len(), "span ids are distinct");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn joined_futures_share_a_trace() {
    let world = world();
    let root = world.root();
    let tasks: Vec<_> = (0..20i64)
        .map(|n| {
            let branch = root.child("branch");
            tokio::spawn(async move {
                branch.set("n", n);
                for step in 0..5i64 {
                    let leaf = branch.child("leaf").guard();
                    tokio::task::yield_now().await;
                    leaf.set("n", n);
                    leaf.set("step", step);
                }
                branch.end();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    root.end();
    let spans = world.traces().remove(0);
    assert_eq!(spans.len(), 1 + 20 * 6);
    let by_id: HashMap<_, _> = spans.iter().map(|span| (span.span_id.clone(), span)).collect();
    let mut leaves = HashSet::new();
    for span in &spans {
        let own = attributes(span);
        assert!(!own.contains_key("unfinished"));
        if span.name == "leaf" {
            assert_eq!(attributes(by_id[&span.parent_span_id])["n"], own["n"], "a leaf hangs on its own branch");
            assert!(leaves.insert((own["n"].clone(), own["step"].clone())));
        }
    }
    assert_eq!(leaves.len(), 100);
}

#[tokio::test]
async fn work_that_is_dropped_closes_as_cancelled() {
    let world = world();
    let root = world.root();
    let work = async move {
        let _open = root.child("waiting").guard();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = work => unreachable!(),
        () = tokio::task::yield_now() => {}
    }
    let spans = world.traces().remove(0);
    assert_eq!(spans[0].events[0].name, "cancelled");
    assert_eq!(spans[0].status.as_ref().unwrap().code, 0, "a caller that goes away is no error");
    assert_eq!(spans[1].name, "waiting");
}

#[test]
fn an_ended_span_does_not_change() {
    let world = world();
    let root = world.root();
    let child = root.child("child");
    child.set("k", 1i64);
    let took = {
        child.end();
        child.elapsed()
    };
    child.set("k", 2i64);
    child.set("new", true);
    child.event("late");
    child.fail_softly("late");
    child.end();
    assert_eq!(child.elapsed(), took);
    root.end();
    let child = world.traces().remove(0).remove(1);
    assert_eq!(attributes(&child), BTreeMap::from([("k".into(), "1".into())]));
    assert!(child.events.is_empty() && child.status.unwrap().code == 0);
}

/// One thing that a request does to its trace.
#[derive(Debug, Clone)]
enum Step {
    Begin { parent: usize, name: usize, kind: usize },
    Set { span: usize, key: usize, value: i8 },
    Event { span: usize, name: usize },
    Link { span: usize, to: u8 },
    Fail { span: usize },
    End { span: usize },
}

const NAMES: [&str; 4] = ["context.view", "ranking.score", "bandit.sample", "llm.reason"];
const KINDS: [(Kind, SpanKind); 5] = [
    (Kind::Internal, SpanKind::Internal),
    (Kind::Server, SpanKind::Server),
    (Kind::Client, SpanKind::Client),
    (Kind::Producer, SpanKind::Producer),
    (Kind::Consumer, SpanKind::Consumer),
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let span = 0..12usize;
    let step = prop_oneof![
        3 => (span.clone(), 0..4usize, 0..5usize).prop_map(|(parent, name, kind)| Step::Begin { parent, name, kind }),
        5 => (span.clone(), 0..KEYS.len(), any::<i8>()).prop_map(|(span, key, value)| Step::Set { span, key, value }),
        1 => (span.clone(), 0..4usize).prop_map(|(span, name)| Step::Event { span, name }),
        1 => (span.clone(), 1..255u8).prop_map(|(span, to)| Step::Link { span, to }),
        1 => span.clone().prop_map(|span| Step::Fail { span }),
        2 => span.prop_map(|span| Step::End { span }),
    ];
    prop::collection::vec(step, 0..60)
}

/// A value of every type, from a number.
fn ours(span: &Span, key: &'static str, value: i8) {
    match value % 4 {
        0 => span.set(key, i64::from(value)),
        1 => span.set(key, value > 0),
        2 => span.set(key, f64::from(value) / 8.0),
        3 => span.set(key, "text"),
        _ => span.set(key, &Name::new(&format!("n{}", value.unsigned_abs())).unwrap()),
    }
}

fn theirs(key: &'static str, value: i8) -> KeyValue {
    match value % 4 {
        0 => KeyValue::new(key, i64::from(value)),
        1 => KeyValue::new(key, value > 0),
        2 => KeyValue::new(key, f64::from(value) / 8.0),
        3 => KeyValue::new(key, "text"),
        _ => KeyValue::new(key, format!("n{}", value.unsigned_abs())),
    }
}

/// A span without what must differ: ids by number, no times, and none of what only we add.
#[derive(Debug, PartialEq)]
struct Shape {
    name: String,
    kind: i32,
    parent: Option<String>,
    attributes: BTreeMap<String, String>,
    events: Vec<String>,
    links: Vec<Vec<u8>>,
    failed: bool,
    remote: u32,
}

fn shapes(spans: &[OtlpSpan]) -> BTreeMap<String, Shape> {
    let number = |span: &OtlpSpan| attributes(span)["number"].clone();
    let by_id: HashMap<_, _> = spans.iter().map(|span| (span.span_id.clone(), number(span))).collect();
    let shape = |span: &OtlpSpan| {
        let only_ours = |key: &str| key.starts_with("sampling.") || key == "error.type" || key == "unfinished";
        Shape {
            name: span.name.clone(),
            kind: span.kind,
            parent: by_id.get(&span.parent_span_id).cloned(),
            attributes: attributes(span).into_iter().filter(|(key, _)| !only_ours(key)).collect(),
            events: span.events.iter().map(|event| event.name.clone()).collect(),
            links: span.links.iter().map(|link| link.span_id.clone()).collect(),
            failed: span.status.as_ref().is_some_and(|status| status.code == 2),
            remote: span.flags & 0x300,
        }
    };
    spans.iter().map(|span| (number(span), shape(span))).collect()
}

fn run_ours(world: &World, steps: &[Step], parent: TraceParent) {
    let mut spans = vec![world.telemetry.root("root", Kind::Server, Some(parent), RequestId::default())];
    spans[0].set("number", 0i64);
    let mut set = HashSet::new();
    for step in steps {
        let at = |span: usize| span % spans.len();
        match *step {
            Step::Begin { parent, name, kind } => {
                let span = spans[at(parent)].begin(NAMES[name], KINDS[kind].0);
                span.set("number", spans.len());
                spans.push(span);
            }
            Step::Set { span, key, value } => {
                // The SDK keeps both values of a key that is set twice.
                if set.insert((at(span), key)) && set.iter().filter(|(one, _)| *one == at(span)).count() < 16 {
                    ours(&spans[at(span)], KEYS[key], value);
                }
            }
            Step::Event { span, name } => spans[at(span)].event(NAMES[name]),
            Step::Link { span, to } => spans[at(span)].link(TraceParent { span_id: [to; 8], ..parent }),
            Step::Fail { span } => spans[at(span)].fail_softly("broken"),
            Step::End { span } => {
                if at(span) > 0 {
                    spans[at(span)].end();
                }
            }
        }
    }
    spans[0].end();
}

fn run_theirs(steps: &[Step], parent: TraceParent) -> Vec<OtlpSpan> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let tracer = provider.tracer("oracle");
    let remote = |span_id: [u8; 8]| {
        let trace_id = opentelemetry::trace::TraceId::from_bytes(parent.trace_id.0);
        let span_id = opentelemetry::trace::SpanId::from_bytes(span_id);
        SpanContext::new(trace_id, span_id, opentelemetry::TraceFlags::SAMPLED, true, Default::default())
    };
    let begin = |name: &'static str, kind: &SpanKind, number: usize, parent: &Context| {
        let span = tracer.span_builder(name).with_kind(kind.clone()).start_with_context(&tracer, parent);
        let context = parent.with_span(span);
        context.span().set_attribute(KeyValue::new("number", number as i64));
        context
    };
    let outside = Context::new().with_remote_span_context(remote(parent.span_id));
    let mut spans = vec![begin("root", &SpanKind::Server, 0, &outside)];
    let mut set = HashSet::new();
    for step in steps {
        let at = |span: usize| span % spans.len();
        match *step {
            Step::Begin { parent, name, kind } => {
                let span = begin(NAMES[name], &KINDS[kind].1, spans.len(), &spans[at(parent)]);
                spans.push(span);
            }
            Step::Set { span, key, value } => {
                if set.insert((at(span), key)) && set.iter().filter(|(one, _)| *one == at(span)).count() < 16 {
                    spans[at(span)].span().set_attribute(theirs(KEYS[key], value));
                }
            }
            Step::Event { span, name } => spans[at(span)].span().add_event(NAMES[name], Vec::new()),
            Step::Link { span, to } => spans[at(span)].span().add_link(remote([to; 8]), Vec::new()),
            Step::Fail { span } => spans[at(span)].span().set_status(Status::error("")),
            Step::End { span } => {
                if at(span) > 0 {
                    spans[at(span)].span().end();
                }
            }
        }
    }
    spans.iter().rev().for_each(|span| span.span().end());
    exporter.get_finished_spans().unwrap().into_iter().map(OtlpSpan::from).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever a request does, its trace is the one that the OpenTelemetry SDK makes of the same steps.
    #[test]
    fn the_tree_is_the_sdks(steps in steps()) {
        let world = world();
        let parent = TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03").unwrap();
        run_ours(&world, &steps, parent);
        let ours = world.traces().remove(0);
        prop_assert_eq!(&ours[0].parent_span_id, &parent.span_id.to_vec());
        let theirs = run_theirs(&steps, parent);
        prop_assert_eq!(shapes(&ours), shapes(&theirs));
        for span in &ours {
            prop_assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
            prop_assert_eq!(&span.trace_id, &parent.trace_id.0.to_vec());
        }
    }
}
