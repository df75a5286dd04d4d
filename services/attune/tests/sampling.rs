//! Which traces leave seven processes, as an OTLP receiver sees it: all that failed, were slow or used the llm, whole;
//! of the others exactly those that their ids choose. And that nobody notices when the receiver is dead.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;

use futures::{StreamExt as _, stream};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span as OtlpSpan;
use parking_lot::Mutex;
use platform::*;
use serde_json::json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const SERVICES: [&str; 7] = ["edge", "origin", "retrieval", "ranking", "bandit", "llm", "embedder"];
/// Of the visitors that the origin is asked about: 1 % errors, 2 % slow, 5 % llm.
const NEWCOMERS: usize = 4_000;
const ERRORS: usize = 40;
const SLOW: usize = 80;
const LLM: usize = 200;
const HITS: usize = 12_000;
/// Requests that wait together while the origin is frozen.
const TOGETHER: usize = 10;
/// Longer than a part waits for its verdict, and than a batch waits for its fellows.
const SETTLED: Duration = Duration::from_secs(9);

/// A span, its service, and its attributes as text.
#[derive(Clone, Debug)]
struct Span {
    service: String,
    name: String,
    id: Vec<u8>,
    parent: Vec<u8>,
    kind: i32,
    state: String,
    attributes: BTreeMap<String, String>,
}

/// Keeps everything, by trace id.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<HashMap<Vec<u8>, Vec<Span>>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut traces = self.0.lock();
        for resource in request.into_inner().resource_spans {
            let service = attributes(&resource.resource.unwrap().attributes)["service.name"].clone();
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let OtlpSpan { trace_id, span_id, parent_span_id, name, kind, trace_state, attributes: given, .. } =
                    span;
                traces.entry(trace_id).or_default().push(Span {
                    service: service.clone(),
                    name,
                    id: span_id,
                    parent: parent_span_id,
                    kind,
                    state: trace_state,
                    attributes: attributes(&given),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attributes(given: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &AnyValue| match value {
        AnyValue::StringValue(text) => text.clone(),
        AnyValue::BoolValue(value) => value.to_string(),
        AnyValue::IntValue(value) => value.to_string(),
        AnyValue::DoubleValue(value) => value.to_string(),
        other => format!("{other:?}"),
    };
    let value = |one: &opentelemetry_proto::tonic::common::v1::KeyValue| one.value.as_ref()?.value.as_ref().map(text);
    given.iter().map(|one| (one.key.clone(), value(one).unwrap_or_default())).collect()
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn start(dir: &TempDir, receiver: SocketAddr, more: &str) -> Platform {
    let mut settings = String::from("[edge.experiment]\nholdout = 0.0\n");
    for service in SERVICES {
        writeln!(settings, "[{service}.process.telemetry]\notlp = \"http://{receiver}\"\n{more}").unwrap();
    }
    let file = dir.path().join("settings.toml");
    fs::write(&file, settings).unwrap();
    Platform::start(dir, &["--separate", "--config", file.to_str().unwrap()])
}

/// A request that was made, by the trace that its answer names.
#[derive(Debug)]
struct Asked {
    trace: Vec<u8>,
    status: u16,
    took: Duration,
    cache: String,
    tier: String,
    level: u64,
}

async fn ask(edge: &Site, path: &str, body: serde_json::Value) -> Asked {
    let begun = Instant::now();
    let answer = edge.post(path, &body).await;
    let took = begun.elapsed();
    let trace = answer.header("traceresponse").split('-').nth(1).unwrap().to_owned();
    let trace = (0..16).map(|at| u8::from_str_radix(&trace[2 * at..2 * at + 2], 16).unwrap()).collect();
    let document = answer.json();
    let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    let level = document["level"].as_u64().unwrap_or(0);
    Asked { trace, status: answer.status, took, cache: text("cache"), tier: text("tier"), level }
}

async fn ask_all(
    edge: &Site,
    path: &str,
    bodies: impl Iterator<Item = serde_json::Value>,
    at_once: usize,
) -> Vec<Asked> {
    stream::iter(bodies).map(|body| ask(edge, path, body)).buffer_unordered(at_once).collect().await
}

/// Feedback of some visitors at once while the origin does not move for this long.
async fn while_frozen(platform: &Platform, round: usize, pause: Duration) -> Vec<Asked> {
    let pid = platform.pid_of("origin").unwrap();
    freeze(pid);
    let bodies = (0..TOGETHER).map(|n| {
        let name = format!("frozen {round} {n}");
        json!({"events": [event(&name, "click", &name, "i7")]})
    });
    let (asked, ()) = tokio::join!(ask_all(&platform.edge, "/v1/feedback", bodies, TOGETHER), async {
        tokio::time::sleep(pause).await;
        signal(pid, libc::SIGCONT);
    });
    asked
}

/// The low 56 bits of the id, which decide.
fn randomness(trace: &[u8]) -> u64 {
    trace[9..].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// As published: one percent and one permille of all ids.
fn chosen(trace: &[u8], threshold: u64) -> bool {
    randomness(trace) >= threshold << 32
}

const ONE_PERCENT: u64 = 0x00fd_70a4;
const ONE_PERMILLE: u64 = 0x00ff_be77;

/// Checks that nothing of the trace is missing, and gives its root.
fn whole(trace: &[u8], spans: &[Span]) -> Span {
    let by_id: HashMap<&[u8], &Span> = spans.iter().map(|span| (&span.id[..], span)).collect();
    assert_eq!(by_id.len(), spans.len(), "two spans have one id, or one came twice: {spans:#?}");
    let roots: Vec<_> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{trace:02x?} {spans:#?}");
    assert_eq!(roots[0].service, "edge");
    let states: HashSet<_> = spans.iter().map(|span| &span.state).collect();
    assert_eq!(states.len(), 1, "the parts stand for different numbers: {spans:#?}");
    for span in spans.iter().filter(|span| !span.parent.is_empty()) {
        assert!(by_id.contains_key(&span.parent[..]), "an orphan: {span:#?}");
    }
    for call in spans.iter().filter(|span| span.kind == 3 && span.attributes.contains_key("sampling.subtree")) {
        assert_ne!(call.attributes["sampling.subtree"], "unrecorded", "{call:#?}");
        let answered = call.attributes.get("rpc.response.status_code").is_some_and(|code| code == "OK");
        let callee = spans.iter().any(|span| span.parent == call.id && span.kind == 2);
        assert!(callee || !answered, "the callee's part is missing: {call:#?} in {spans:#?}");
    }
    roots[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_matters_is_kept_whole_and_the_rest_by_its_id() {
    let (listener, address) = listen().await;
    let receiver = Receiver::default();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(receiver.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let dir = state();
    let platform = start(&dir, address, "");
    let edge = &platform.edge;
    let page = |user: String, explain: bool| json!({"user_id": user, "limit": 5, "explain": explain});
    let known = |n: usize| format!("u{}", n % USERS as usize);
    // The edge learns everybody's state.
    ask_all(edge, "/v1/personalize", (0..USERS as usize).map(|n| page(known(n), false)), 4).await;

    let begun = Instant::now();
    let mut slow = Vec::new();
    for round in 0..SLOW / TOGETHER {
        slow.extend(while_frozen(&platform, round, Duration::from_millis(320)).await);
    }
    // Who has waited for the origin in vain asks it again only after a while.
    let mut calm = 0;
    while calm < 20 {
        let asked = ask(edge, "/v1/personalize", page(known(calm), true)).await;
        calm = if asked.level == 0 { calm + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut llm = Vec::new();
    for n in 0..LLM {
        llm.push(ask(edge, "/v1/personalize", page(known(n), true)).await);
        // Some eighty a second at most: faster than that they would come near the budget.
        tokio::time::sleep(Duration::from_millis(12)).await;
    }
    let newcomers = (0..NEWCOMERS).map(|n| page(format!("newcomer {n}"), false));
    let newcomers = ask_all(edge, "/v1/personalize", newcomers, 8).await;
    let hits = ask_all(edge, "/v1/personalize", (0..HITS).map(|n| page(known(n), false)), 8).await;
    let mut errors = Vec::new();
    for round in 0..ERRORS / TOGETHER {
        // Longer than the edge waits for an event to be stored.
        errors.extend(while_frozen(&platform, 1_000 + round, Duration::from_millis(2_400)).await);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let promoted = slow.len() + llm.len() + errors.len();
    println!("{promoted} to promote in {seconds:.0} s, {:.1} a second; the budget is 200", promoted as f64 / seconds);
    tokio::time::sleep(SETTLED).await;

    let traces = receiver.0.lock().clone();
    let root_of = |asked: &Asked| traces.get(&asked.trace).map(|spans| whole(&asked.trace, spans));
    let reason = |root: &Span| root.attributes["sampling.reason"].clone();

    for asked in &slow {
        assert_eq!(asked.status, 202);
        let root = root_of(asked).unwrap_or_else(|| panic!("a slow one is lost: {asked:?}"));
        assert_eq!((reason(&root).as_str(), root.state.as_str()), ("slow", "ot=th:0"), "{asked:?}");
        assert!(traces[&asked.trace].iter().any(|span| span.name == "api.feedback"));
    }
    for asked in &errors {
        assert_eq!(asked.status, 503);
        let root = root_of(asked).unwrap_or_else(|| panic!("an error is lost: {asked:?}"));
        assert_eq!((reason(&root).as_str(), root.state.as_str()), ("error", "ot=th:0"), "{asked:?}");
    }
    let mut full = 0;
    for asked in llm.iter().filter(|asked| asked.tier == "llm") {
        let root = root_of(asked).unwrap_or_else(|| panic!("one with the llm is lost: {asked:?}"));
        // A callee that was late failed, whatever the page made of it.
        let other = asked.level > 0 && reason(&root) == "error";
        assert!(other || ["llm", "slow"].contains(&reason(&root).as_str()), "{root:#?}");
        assert_eq!(root.state, "ot=th:0");
        let names: HashSet<_> = traces[&asked.trace].iter().map(|span| span.name.as_str()).collect();
        // A stage that was late has no part in the answer.
        if asked.level == 0 {
            full += 1;
            for name in [
                "edge.personalize",
                "edge.cache_lookup",
                "api.personalize",
                "context.build",
                "retrieval.candidates",
                "retrieval.ann_search",
                "ranking.score",
                "bandit.sample",
                "llm.reason",
            ] {
                assert!(names.contains(name), "{name} is not in {names:?}");
            }
        }
    }
    println!("{full} of {LLM} llm pages at level 0");
    assert!(full > LLM / 2, "{full} of {LLM}");

    for (name, all, threshold, state) in
        [("normal", &newcomers, ONE_PERCENT, "ot=th:fd70a4"), ("edge_only", &hits, ONE_PERMILLE, "ot=th:ffbe77")]
    {
        let (mut plain, mut kept, mut promoted) = (0, 0, 0);
        for asked in all {
            assert_eq!(asked.status, 200);
            // An edge that gave up on the origin does not hear for what it is promoted there after that.
            if asked.level > 0 {
                continue;
            }
            let root = root_of(asked);
            let other = root.as_ref().is_some_and(|root| reason(root) != name);
            // Slow because the machine was; and visitors whom the edge asked about after all.
            if other || asked.took > Duration::from_millis(150) || (name == "edge_only" && asked.cache != "hit") {
                promoted += usize::from(other);
                continue;
            }
            plain += 1;
            assert_eq!(root.is_some(), chosen(&asked.trace, threshold), "{name} {asked:?}");
            if let Some(root) = root {
                kept += 1;
                assert_eq!(root.state, state);
            }
        }
        let share = if threshold == ONE_PERCENT { 0.01 } else { 0.001 };
        let expected = plain as f64 * share;
        let sigma = (expected * (1.0 - share)).sqrt();
        println!(
            "{name}: {kept} of {plain} kept, expected {expected:.0} +- {sigma:.0}; {promoted} promoted for other reasons"
        );
        assert!(plain > all.len() / 2, "{name}: only {plain} of {} were plain", all.len());
        assert!((kept as f64 - expected).abs() <= 4.0 * sigma, "{name}: {kept} of {plain}");
    }
    // Whatever else was kept (background work has traces too) is whole.
    let asked: HashSet<&Vec<u8>> =
        [&slow, &errors, &llm, &newcomers, &hits].into_iter().flatten().map(|a| &a.trace).collect();
    let others = traces.keys().filter(|trace| !asked.contains(trace)).count();
    println!("{} traces, {others} of them of other requests", traces.len());
    assert!(platform.interrupt().success());
}

fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

async fn metric(platform: &Platform, service: &str, name: &str) -> f64 {
    let admin = Site::new(platform.ready["admin"][service].as_str().unwrap());
    let text = admin.get("/metrics").await.text();
    text.lines()
        .filter(|line| line.starts_with(name))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_receiver_is_no_concern_of_the_visitors() {
    // Nobody listens there any more.
    let (listener, address) = listen().await;
    drop(listener);
    let dir = state();
    let platform = start(&dir, address, "sample_normal = 1.0\nsample_edge_only = 1.0\nqueue_limit = \"256KiB\"");
    let edge = &platform.edge;
    let pages = |count: usize| (0..count).map(|n| json!({"user_id": format!("u{}", n % USERS as usize), "limit": 5}));
    ask_all(edge, "/v1/personalize", pages(2_000), 8).await;
    let pid = platform.pid_of("edge").unwrap();
    let before = resident(pid);
    let asked = ask_all(edge, "/v1/personalize", pages(20_000), 8).await;
    let after = resident(pid);
    assert!(asked.iter().all(|asked| asked.status == 200));
    let mut times: Vec<_> = asked.iter().map(|asked| asked.took).collect();
    times.sort();
    let dropped = metric(&platform, "edge", "trace_export_dropped_total").await;
    println!(
        "p50 {:.1?}, p99 {:.1?}; {dropped} traces dropped; {} MiB more",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        after.saturating_sub(before) >> 20
    );
    assert!(dropped > 1_000.0, "{dropped}");
    assert!(after < before + (48 << 20), "from {before} to {after} bytes");
    assert!(platform.interrupt().success());
}
