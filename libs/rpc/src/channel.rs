//! One type of channel for generated clients, whether the other side is a process or a value in this one.

use crate::breaker::{Breaker, BreakerConfig, Permit};
use attune_config::HumanDuration;
use attune_telemetry::catalogue::names;
use attune_telemetry::grpc::{GrpcClientLayer, GrpcServerLayer};
use attune_telemetry::{Counter, Gauge, Telemetry};
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, Service, ServiceExt as _};

/// How to reach another service.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    pub connect_timeout: HumanDuration,
    /// A connection with calls in flight is pinged this often, and given up when no answer comes in the same time.
    pub keepalive: HumanDuration,
    pub breaker: BreakerConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: HumanDuration::millis(500),
            keepalive: HumanDuration::secs(5),
            breaker: BreakerConfig::default(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("address {address:?} must be http://host:port or unix:/path")]
    Address { address: String, source: Option<tonic::transport::Error> },
}

/// Give it to a generated client: `RankingServiceClient::new(channel)`. Clones share connection and breaker.
#[derive(Clone)]
pub struct Channel {
    inner: BoxCloneSyncService<Request<Body>, Response<Body>, Status>,
    shared: Arc<Shared>,
}

struct Shared {
    breaker: Breaker,
    opened: Counter,
    refused: Counter,
    open: Gauge,
}

impl Channel {
    /// Connects when first used, and again after every loss. `peer` labels the breaker's metrics. Call it inside a runtime.
    pub fn remote(
        peer: &'static str,
        address: &str,
        config: &ClientConfig,
        caller: &Telemetry,
    ) -> Result<Self, ChannelError> {
        let refuse = |source| ChannelError::Address { address: address.into(), source };
        let uri = match address.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => format!("unix://{path}").replace("unix:////", "unix:///"),
            None if address.starts_with("http://") => address.to_owned(),
            _ => return Err(refuse(None)),
        };
        let endpoint = Endpoint::from_shared(uri).map_err(|e| refuse(Some(e)))?;
        let transport = endpoint
            .connect_timeout(config.connect_timeout.get())
            .tcp_nodelay(true)
            .http2_keep_alive_interval(config.keepalive.get())
            .keep_alive_timeout(config.keepalive.get())
            .connect_lazy();
        Ok(Self::over(BoxCloneSyncService::new(GrpcClientLayer.layer(transport)), peer, config, caller))
    }

    /// Calls the server value itself: same encoding, same layers, no transport. `callee` is the telemetry of the
    /// service that answers.
    pub fn local(peer: &'static str, routes: Routes, callee: &Telemetry, caller: &Telemetry) -> Self {
        let server = GrpcServerLayer::new(callee).layer(routes.prepare());
        let config = ClientConfig::default();
        Self::over(BoxCloneSyncService::new(GrpcClientLayer.layer(server)), peer, &config, caller)
    }

    fn over(
        inner: BoxCloneSyncService<Request<Body>, Response<Body>, Status>,
        peer: &'static str,
        config: &ClientConfig,
        caller: &Telemetry,
    ) -> Self {
        let metrics = caller.metrics();
        let labels = [peer];
        let shared = Shared {
            breaker: Breaker::new(config.breaker.clone()),
            opened: metrics.counter(&names::RPC_CIRCUIT_OPENED, &labels),
            refused: metrics.counter(&names::RPC_CIRCUIT_REFUSED, &labels),
            open: metrics.gauge(&names::RPC_CIRCUIT_OPEN, &labels),
        };
        Self { inner, shared: Arc::new(shared) }
    }

    /// Whether calls are being refused, but for probes.
    pub fn circuit_open(&self) -> bool {
        self.shared.breaker.is_open()
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("circuit_open", &self.circuit_open()).finish()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        if shared.breaker.ask(Instant::now()) == Permit::Refuse {
            shared.refused.inc();
            return Box::pin(async { Err(Status::unavailable("the circuit is open")) });
        }
        let inner = self.inner.clone();
        Box::pin(async move {
            let answer = inner.oneshot(request).await;
            let code = match &answer {
                Ok(response) => Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code()),
                Err(status) => status.code(),
            };
            shared.note(code);
            answer
        })
    }
}

impl Shared {
    /// Only nobody there, or nobody in time, speaks against the peer; any other answer shows that it lives.
    fn note(&self, code: Code) {
        if !matches!(code, Code::Unavailable | Code::DeadlineExceeded) {
            self.breaker.succeeded();
        } else if self.breaker.failed(Instant::now()) {
            self.opened.inc();
        }
        self.open.set(f64::from(u8::from(self.breaker.is_open())));
    }
}
