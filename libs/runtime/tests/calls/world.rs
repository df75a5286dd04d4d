//! Two services: an origin that calls, and a bandit (with a language model beside it) that misbehaves on demand.

use attune_config::HumanDuration;
use attune_proto::bandit::v1::bandit_service_client::BanditServiceClient;
use attune_proto::bandit::v1::bandit_service_server::{BanditService, BanditServiceServer};
use attune_proto::bandit::v1::{SampleRequest, SampleResponse};
use attune_proto::llm::v1::llm_service_client::LlmServiceClient;
use attune_proto::llm::v1::llm_service_server::{LlmService, LlmServiceServer};
use attune_proto::llm::v1::{ReasonRequest, ReasonResponse};
use attune_rpc::{Channel, ClientConfig, Code, Error, Scope};
use attune_runtime::grpc::{GrpcConfig, GrpcError, Serving, serve};
use attune_runtime::{Ready, Shutdown, system_clock};
use attune_telemetry::{Guard, LogTarget, ServiceInfo, Telemetry, TelemetryConfig};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const FAILURES_TO_OPEN: u32 = 5;

/// Seeds that make the bandit misbehave.
pub(crate) const FAIL: u64 = 1;
pub(crate) const ERASED: u64 = 2;
pub(crate) const HANG: u64 = 3;
pub(crate) const HOLD: u64 = 4;

#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    Tcp,
    Unix,
    Value,
}

impl By {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Unix, Self::Value];
}

struct Handler {
    entered: Semaphore,
    released: Semaphore,
    running: AtomicUsize,
    handled: AtomicUsize,
    seen: Mutex<Option<Scope>>,
    remaining: Mutex<Option<Duration>>,
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[derive(Clone)]
struct Served(Arc<Handler>);

#[tonic::async_trait]
impl BanditService for Served {
    async fn sample(&self, request: Request<SampleRequest>) -> Result<Response<SampleResponse>, Status> {
        let scope = Scope::of(&request);
        let _draw = scope.span.child("bandit.draw").guard();
        let handler = &*self.0;
        handler.running.fetch_add(1, SeqCst);
        let _running = Running(&handler.running);
        handler.handled.fetch_add(1, SeqCst);
        *handler.remaining.lock().unwrap() = Some(scope.deadline.remaining());
        *handler.seen.lock().unwrap() = Some(scope.clone());
        handler.entered.add_permits(1);
        match request.into_inner().seed {
            FAIL => return Err(Error::internal("it broke").into()),
            ERASED => return Err(Error::new(Code::Erased, "it was erased").into()),
            HANG => std::future::pending().await,
            HOLD => handler.released.acquire().await.unwrap().forget(),
            _ => {}
        }
        Ok(Response::new(SampleResponse { picks: vec![1, 2, 3], ..Default::default() }))
    }
}

#[tonic::async_trait]
impl LlmService for Served {
    type ReasonStream = BoxStream<'static, Result<ReasonResponse, Status>>;

    async fn reason(&self, request: Request<ReasonRequest>) -> Result<Response<Self::ReasonStream>, Status> {
        let title = request.into_inner().item_title;
        let piece = |text: &str| Ok(ReasonResponse { text: text.into(), ..Default::default() });
        let pieces = match title.as_str() {
            "late failure" => vec![piece("because"), Err(Status::data_loss("lost"))],
            _ => vec![piece("because"), piece("of"), piece("that")],
        };
        Ok(Response::new(futures::stream::iter(pieces).boxed()))
    }
}

pub(crate) struct World {
    pub(crate) origin: Telemetry,
    pub(crate) bandit: Telemetry,
    pub(crate) channel: Channel,
    pub(crate) shutdown: Shutdown,
    pub(crate) address: String,
    language: Channel,
    handler: Arc<Handler>,
    serving: Vec<Serving>,
    guard: Guard,
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start(by: By, change: impl FnOnce(&mut TelemetryConfig)) -> Self {
        Self::build(Some(by), None, change).await
    }

    /// Only the calling side, towards an address.
    pub(crate) async fn start_remote(address: &str) -> Self {
        Self::build(None, Some(address), |_| {}).await
    }

    /// Serving at an address that was in use before.
    pub(crate) async fn start_at(address: &str) -> Self {
        Self::build(Some(By::Tcp), Some(address), |_| {}).await
    }

    async fn build(by: Option<By>, at: Option<&str>, change: impl FnOnce(&mut TelemetryConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = TelemetryConfig {
            traces: Some(dir.path().join("traces.jsonl")),
            logs: LogTarget::Off,
            // A busy machine must not turn a normal trace into a slow one.
            slow_after: HumanDuration::secs(60),
            ..TelemetryConfig::default()
        };
        change(&mut config);
        let info = |service| ServiceInfo { service, version: "1", instance: "test".into() };
        let (origin, guard) = Telemetry::start(&config, info("origin"), system_clock()).unwrap();
        let (bandit, llm) = (origin.service(info("bandit")), origin.service(info("llm")));
        let handler = Arc::new(Handler {
            entered: Semaphore::new(0),
            released: Semaphore::new(0),
            running: AtomicUsize::new(0),
            handled: AtomicUsize::new(0),
            seen: Mutex::new(None),
            remaining: Mutex::new(None),
        });
        let served = Served(handler.clone());
        let bandits = Routes::new(BanditServiceServer::new(served.clone()));
        let models = Routes::new(LlmServiceServer::new(served));
        let shutdown = Shutdown::new();
        let mut serving = Vec::new();
        let mut client = ClientConfig::default();
        client.breaker.failures = FAILURES_TO_OPEN;
        client.breaker.open_for =
            if by.is_none() && at.is_some() { HumanDuration::secs(600) } else { HumanDuration::millis(1) };
        let remote = |address: &str| Channel::remote("bandit", address, &client, &origin).unwrap();
        let (channel, language, address) = match by {
            None => (remote(at.unwrap()), remote(at.unwrap()), at.unwrap().to_owned()),
            Some(By::Value) => (
                Channel::local("bandit", bandits, &bandit, &origin),
                Channel::local("llm", models, &llm, &origin),
                String::new(),
            ),
            Some(by) => {
                let listen = |name: &str| match (by, at) {
                    (By::Unix, _) => format!("unix:{}/{name}", dir.path().display()),
                    (_, Some(at)) if name == "bandit" => at.trim_start_matches("http://").to_owned(),
                    _ => "127.0.0.1:0".into(),
                };
                let mut addresses = Vec::new();
                for (name, routes, telemetry) in [("bandit", bandits, &bandit), ("llm", models, &llm)] {
                    let drain = HumanDuration::millis(300);
                    let config = GrpcConfig { listen: listen(name), drain, ..GrpcConfig::default() };
                    let descriptors = attune_proto::DESCRIPTORS;
                    let one = serve(&config, routes, descriptors, telemetry, &Ready::new(), &shutdown).await.unwrap();
                    addresses.push(one.bound.to_string());
                    serving.push(one);
                }
                (remote(&addresses[0]), remote(&addresses[1]), addresses.swap_remove(0))
            }
        };
        Self { origin, bandit, channel, shutdown, address, language, handler, serving, guard, dir }
    }

    pub(crate) fn call(
        &self,
        scope: &Scope,
        seed: u64,
        max: Duration,
    ) -> impl Future<Output = Result<SampleResponse, Status>> + Send + 'static {
        let mut client = BanditServiceClient::new(self.channel.clone());
        let request = attune_rpc::request(SampleRequest { seed, ..Default::default() }, scope, max);
        async move { client.sample(request).await.map(Response::into_inner) }
    }

    pub(crate) async fn sample(&self, scope: &Scope, seed: u64, max: Duration) -> Result<SampleResponse, Status> {
        self.call(scope, seed, max).await
    }

    pub(crate) async fn reason(&self, scope: &Scope, title: &str) -> Result<Vec<String>, Status> {
        let mut client = LlmServiceClient::new(self.language.clone());
        let message = ReasonRequest { item_title: title.into(), ..Default::default() };
        let stream = client.reason(attune_rpc::request(message, scope, PATIENCE)).await?.into_inner();
        stream.map_ok(|piece| piece.text).try_collect().await
    }

    pub(crate) fn seen_remaining(&self) -> Option<Duration> {
        *self.handler.remaining.lock().unwrap()
    }

    /// The scope of the last call that the bandit got.
    pub(crate) fn seen_scope(&self) -> Scope {
        self.handler.seen.lock().unwrap().clone().unwrap()
    }

    pub(crate) fn handled(&self) -> usize {
        self.handler.handled.load(SeqCst)
    }

    pub(crate) async fn handler_entered(&self) {
        self.handler.entered.acquire().await.unwrap().forget();
    }

    pub(crate) fn release(&self) {
        self.handler.released.add_permits(1);
    }

    pub(crate) async fn handlers_idle(&self) {
        while self.handler.running.load(SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn ended(self) -> Result<(), GrpcError> {
        for one in self.serving {
            one.ended().await?;
        }
        Ok(())
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        // What is cut off does not matter here.
        let _ = self.ended().await;
    }

    /// All kept spans by name.
    pub(crate) fn spans(&self) -> BTreeMap<String, Value> {
        assert!(self.guard.flush(PATIENCE));
        let text = std::fs::read_to_string(self.dir.path().join("traces.jsonl")).unwrap();
        let mut spans = BTreeMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            for span in line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap() {
                spans.insert(span["name"].as_str().unwrap().to_owned(), span.clone());
            }
        }
        spans
    }

    /// The same, once there are this many: a server learns of a cancellation when its transport does.
    pub(crate) async fn spans_when(&self, count: usize) -> BTreeMap<String, Value> {
        for _ in 0..2000 {
            if self.spans().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.spans()
    }
}

pub(crate) fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let attributes = span["attributes"].as_array()?;
    attributes.iter().find(|one| one["key"] == key)?["value"]["stringValue"].as_str()
}
