//! Serving gRPC: telemetry layers, health, reflection, limits, drain.

pub use crate::incoming::Bound;
use crate::incoming::{bind, connections};
use crate::{Ready, Shutdown};
use attune_config::HumanDuration;
use attune_telemetry::Telemetry;
use attune_telemetry::grpc::GrpcServerLayer;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;

/// Where and within which limits a service listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// `host:port` or `unix:/path`.
    pub listen: String,
    /// Connections at once; more wait.
    pub max_connections: usize,
    /// Calls in progress on one connection.
    pub max_streams: u32,
    /// No call may take longer, whatever its caller asks for.
    pub max_deadline: HumanDuration,
    /// How long calls in progress may take to finish once draining began.
    pub drain: HumanDuration,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".into(),
            max_connections: 1024,
            max_streams: 1024,
            max_deadline: HumanDuration::secs(60),
            drain: HumanDuration::secs(10),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    #[error("cannot listen on {address}")]
    Bind { address: String, source: std::io::Error },
    #[error("cannot describe the service for reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    #[error("the server failed")]
    Serve(#[source] tonic::transport::Error),
    #[error("calls were still in progress after {0:?} and were cut off")]
    Undrained(Duration),
    #[error("the server panicked")]
    Panicked,
}

/// A server that runs until shutdown.
#[derive(Debug)]
pub struct Serving {
    pub bound: Bound,
    task: JoinHandle<Result<(), GrpcError>>,
}

impl Serving {
    /// Waits until the server has drained and ended.
    pub async fn ended(self) -> Result<(), GrpcError> {
        self.task.await.unwrap_or(Err(GrpcError::Panicked))
    }
}

/// Binds, then serves `routes` under the telemetry layers with standard health (which follows `ready`) and reflection,
/// until `shutdown`; then refuses new connections, lets calls finish within the drain limit, and ends.
pub async fn serve(
    config: &GrpcConfig,
    routes: Routes,
    descriptors: &'static [u8],
    telemetry: &Telemetry,
    ready: &Ready,
    shutdown: &Shutdown,
) -> Result<Serving, GrpcError> {
    let refused = |source| GrpcError::Bind { address: config.listen.clone(), source };
    let (listener, bound) = bind(&config.listen).await.map_err(refused)?;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(descriptors)
        .build_v1()
        .map_err(GrpcError::Reflection)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let follow = tokio::spawn(follow_ready(reporter, ready.clone()));

    let layer = GrpcServerLayer::new(telemetry).max_deadline(config.max_deadline.get());
    let server = Server::builder()
        .max_concurrent_streams(config.max_streams)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .layer(layer)
        .add_routes(routes.add_service(health).add_service(reflection).prepare());
    let cut = Shutdown::new();
    let incoming = connections(listener, config.max_connections, cut.clone());
    let (limit, stop, path) = (config.drain.get(), shutdown.clone(), bound.clone());
    let task = tokio::spawn(async move {
        let waiting = stop.clone();
        let serving = server.serve_with_incoming_shutdown(incoming, async move { waiting.wait().await });
        let cut_off = async {
            stop.wait().await;
            tokio::time::sleep(limit).await;
        };
        let result = tokio::select! {
            served = serving => served.map_err(GrpcError::Serve),
            () = cut_off => Err(GrpcError::Undrained(limit)),
        };
        cut.trigger();
        follow.abort();
        if let Bound::Unix(path) = &path {
            // Only tidiness is lost if it fails: a dead socket file is replaced at the next start.
            let _ = std::fs::remove_file(path);
        }
        result
    });
    Ok(Serving { bound, task })
}

async fn follow_ready(reporter: tonic_health::server::HealthReporter, ready: Ready) {
    loop {
        let now = ready.is_ready();
        let status = if now { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        ready.changed_from(now).await;
    }
}
