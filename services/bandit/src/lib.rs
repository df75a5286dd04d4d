//! Bandit: a slate by Thompson sampling over scored candidates.
//!
//! Always holds: the slate is a pure function of (policy, seed, limit, candidates, scores, item facts, posterior
//! snapshot), computed by `attune-decision`; every answer names the snapshot it was sampled from; while the feature
//! store is away the last snapshot stays.

#![warn(clippy::disallowed_macros)]

pub mod config;
pub mod error;
pub mod grpc;
pub mod own;
pub mod posteriors;
pub mod sample;
pub mod telemetry;

pub use config::{BanditConfig, DEFAULTS};
pub use error::BanditError;
pub use posteriors::PosteriorCache;
pub use sample::{Bandit, Candidates, Slate};

use attune_proto::bandit::v1::bandit_service_server::BanditServiceServer;
use attune_serving::SharedServing;
use attune_storage::{EventLog, FeatureStore};
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
    pub store: Arc<dyn FeatureStore>,
    pub telemetry: Telemetry,
    /// True ends the tasks.
    pub stop: watch::Receiver<bool>,
}

/// A service ready to serve. Its tasks have to be run beside it.
pub struct Built {
    pub routes: Routes,
    pub tasks: Vec<BoxFuture<'static, ()>>,
    pub bandit: Arc<Bandit>,
}

/// Wires the service. Until the store answers for the first time, slates come from the priors alone.
pub async fn build(config: &BanditConfig, deps: Deps) -> Built {
    let metrics = telemetry::BanditMetrics::register(&deps.telemetry);
    let posteriors = Arc::new(PosteriorCache::new(deps.store));
    if posteriors.refresh(config.poll.0).await.is_err() {
        metrics.poll_failed();
    }
    let keeping =
        Arc::clone(&posteriors).keep(config.poll.0, config.poll_timeout.0, metrics.clone(), deps.stop.clone());
    let mut tasks: Vec<BoxFuture<'static, ()>> = vec![Box::pin(keeping)];
    let bandit = Arc::new(Bandit::new(deps.serving.clone(), posteriors, config, metrics));
    if let Some(log) = deps.item_updates {
        tasks.push(Box::pin(attune_serving::follow(deps.serving, log, |_| (), deps.stop)));
    }
    let routes = Routes::new(BanditServiceServer::new(grpc::BanditGrpc::new(Arc::clone(&bandit))));
    Built { routes, tasks, bandit }
}
