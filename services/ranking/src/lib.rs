//! Ranking: features to scores.
//!
//! Always holds: an item's score never depends on the other items of its batch; a request is scored by one bundle, the
//! one the caller pins, or refused; the number of calls that compute or wait is bounded.

#![warn(clippy::disallowed_macros)]

pub mod config;
pub mod error;
pub mod grpc;
pub mod own;
pub mod pool;
pub mod rank;
pub mod telemetry;

pub use config::{DEFAULTS, RankingConfig};
pub use error::RankingError;
pub use rank::{Ranker, Viewer};

use attune_proto::ranking::v1::ranking_service_server::RankingServiceServer;
use attune_serving::SharedServing;
use attune_storage::EventLog;
use attune_telemetry::Telemetry;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;
use tonic::service::Routes;

/// What the service stands on.
pub struct Deps {
    /// Shared by the services of a process, or this service's own.
    pub serving: SharedServing,
    /// Follows item updates itself; `None` where somebody else in the process keeps `serving` current.
    pub item_updates: Option<Arc<dyn EventLog>>,
    pub telemetry: Telemetry,
    /// True ends the tasks.
    pub stop: watch::Receiver<bool>,
}

/// A service ready to serve. Its tasks have to be run beside it.
pub struct Built {
    pub routes: Routes,
    pub tasks: Vec<BoxFuture<'static, ()>>,
    pub ranker: Arc<Ranker>,
}

/// Wires the service.
pub fn build(config: &RankingConfig, deps: Deps) -> Built {
    let metrics = telemetry::RankingMetrics::register(&deps.telemetry, deps.serving.load().bundle.version());
    let ranker = Arc::new(Ranker::new(deps.serving.clone(), config, metrics));
    let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
    if let Some(log) = deps.item_updates {
        tasks.push(Box::pin(attune_serving::follow(deps.serving, log, |_| (), deps.stop)));
    }
    let routes = Routes::new(RankingServiceServer::new(grpc::RankingGrpc::new(Arc::clone(&ranker))));
    Built { routes, tasks, ranker }
}
