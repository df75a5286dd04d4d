//! Processes that promote traces for each other: telemetries with a bus between them, over real connections.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_config::HumanDuration;
use attune_domain::RequestId;
use attune_telemetry::bus::grpc::DecisionHub;
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::*;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;

struct Process {
    telemetry: Telemetry,
    hub: Option<DecisionHub>,
    dir: tempfile::TempDir,
    _guard: Guard,
}

impl Process {
    fn start(service: &'static str, bus: &str, change: impl FnOnce(&mut TelemetryConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = TelemetryConfig {
            traces: Some(dir.path().join("traces")),
            logs: LogTarget::Off,
            // Nothing is kept by chance, nothing is slow, and no wait ends before its verdict comes.
            sample_normal: 0.0,
            slow_after: HumanDuration::secs(3600),
            tail_wait: HumanDuration::secs(3600),
            decision_bus: Some(bus.to_owned()),
            ..TelemetryConfig::default()
        };
        change(&mut config);
        let info = ServiceInfo { service, version: "1", instance: service.into() };
        let (telemetry, guard) = Telemetry::start(&config, info, Arc::new(|| 1_769_682_600_123)).unwrap();
        let hub = telemetry.join_bus(&config).unwrap();
        Self { telemetry, hub, dir, _guard: guard }
    }

    /// A part of the trace, asked for by somebody who does not keep it so far.
    fn part(&self, trace: RequestId) -> Span {
        let parent = TraceParent::parse(&format!("00-{trace}-b7ad6b7169203331-02"));
        self.telemetry.root("some.part", Kind::Server, parent, trace)
    }

    fn kept(&self) -> String {
        read(&self.dir.path().join("traces"))
    }

    async fn keeps(&self, trace: RequestId) -> String {
        loop {
            let kept = self.kept();
            if let Some(line) = kept.lines().find(|line| line.contains(&trace.to_string())) {
                return line.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn metric(&self, name: &str) -> f64 {
        let text = encode(std::slice::from_ref(&self.telemetry), Format::Text);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} in\n{text}")).parse().unwrap()
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A hub's server; it ends with its connections.
struct Server {
    address: SocketAddr,
    hub: DecisionHub,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn end(self) {
        self.hub.close();
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
    }
}

async fn serve(origin: &Process, address: SocketAddr) -> Server {
    let hub = origin.hub.clone().unwrap();
    let listener = loop {
        // The address of a server that was stopped may be busy for a moment.
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(hub.server());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped).await.unwrap();
    });
    Server { address, hub, stop, serving }
}

fn next_trace() -> RequestId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    RequestId((0xabu128 << 120 | u128::from(NEXT.fetch_add(1, Relaxed))).to_be_bytes())
}

/// Tries with new traces until one is kept on both sides: a subscription takes a moment to stand.
async fn until_heard(promoter: &Process, holder: &Process) -> RequestId {
    loop {
        let trace = next_trace();
        holder.part(trace).end();
        let failing = promoter.part(trace);
        failing.fail("INTERNAL");
        failing.end();
        if tokio::time::timeout(Duration::from_millis(500), holder.keeps(trace)).await.is_ok() {
            return trace;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_one_process_keeps_the_healthy_part_in_another() {
    let origin = Process::start("origin", "hub", |_| {});
    let server = serve(&origin, SocketAddr::from(([127, 0, 0, 1], 0))).await;
    let address = server.address;
    let address_text = format!("http://{address}");
    let [ranking, retrieval] = ["ranking", "retrieval"].map(|service| Process::start(service, &address_text, |_| {}));
    let edge = Process::start("edge", &address_text, |_| {});

    // Ended before the failure, running meanwhile, and begun after it.
    until_heard(&ranking, &retrieval).await;
    let trace = next_trace();
    origin.part(trace).end();
    retrieval.part(trace).end();
    let running = retrieval.part(trace);
    let failing = ranking.part(trace);
    failing.fail("INTERNAL");
    let line = retrieval.keeps(trace).await;
    assert!(line.contains("\"ot=th:0\"") && line.contains("\"error\""), "{line}");
    assert!(running.traceparent().sampled(), "what it calls from now on is told by flag");
    origin.keeps(trace).await;
    running.end();
    failing.end();
    ranking.keeps(trace).await;
    let later = retrieval.part(trace);
    assert!(later.traceparent().sampled());
    later.end();

    // The other way: the hub's own process promotes; and an edge does, which hears nothing itself.
    until_heard(&origin, &ranking).await;
    until_heard(&edge, &origin).await;
    let trace = next_trace();
    let deaf = edge.part(trace);
    let failing = ranking.part(trace);
    failing.fail("INTERNAL");
    origin.part(trace).end();
    origin.keeps(trace).await;
    assert!(!deaf.traceparent().sampled());
    assert!(ranking.metric("trace_bus_published_total") >= 2.0);
    assert!(retrieval.metric("trace_bus_applied_total") >= 2.0);

    // While the hub is away publishing costs nothing; when there is one again all goes on.
    server.end().await;
    for _ in 0..100 {
        let failing = ranking.part(next_trace());
        failing.fail("INTERNAL");
        failing.end();
    }
    let again = Process::start("origin", "hub", |_| {});
    let _server = serve(&again, address).await;
    until_heard(&ranking, &retrieval).await;
    until_heard(&retrieval, &ranking).await;
}

#[tokio::test]
async fn a_hub_that_is_not_there_costs_decisions_and_nothing_else() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ranking = Process::start("ranking", &format!("http://{nobody}"), |config| config.promoted_per_second = 10_000);
    let mut promoted = 0;
    // Each batch waits for two seconds, and few of them may.
    while ranking.metric("trace_bus_lost_total") == 0.0 {
        let failing = ranking.part(next_trace());
        failing.fail("INTERNAL");
        failing.end();
        promoted += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(promoted > 0);
    // What is promoted here does not wait for anybody. The gauge is read at every tick.
    while ranking.metric("trace_store_traces") > 0.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn wrong_addresses_are_refused() {
    for bad in ["", "localhost:9000", "https://localhost:9000", "unix:relative", "http://"] {
        let dir = tempfile::tempdir().unwrap();
        let config = TelemetryConfig {
            traces: Some(dir.path().join("traces")),
            logs: LogTarget::Off,
            decision_bus: Some(bad.into()),
            ..TelemetryConfig::default()
        };
        let info = ServiceInfo { service: "llm", version: "1", instance: "i".into() };
        let (telemetry, _guard) = Telemetry::start(&config, info, Arc::new(|| 0)).unwrap();
        let error = telemetry.join_bus(&config).err().unwrap();
        assert!(error.to_string().contains("telemetry.decision_bus"), "{error}");
    }
}
