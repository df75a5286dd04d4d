//! Retrieval: candidates from several sources in parallel.
//!
//! Always holds: a request is answered from one view (one model, one generation of the index); a source that is late or
//! broken is an outcome in the answer, not an error; the answer never holds a withdrawn item; nothing here knows who
//! asks. Merging the sources' lists is the caller's (`attune_decision::merge`), so that replay does the same.

#![warn(clippy::disallowed_macros)]

pub mod config;
pub mod error;
pub mod follow;
pub mod grpc;
pub mod index;
pub mod own;
pub mod retrieve;
mod shadow;
pub mod sources;
pub mod telemetry;
pub mod text;
pub mod trending;
pub mod view;

pub use config::{DEFAULTS, RetrievalConfig};
pub use error::RetrievalError;
pub use retrieve::{Retrieved, Retriever};

use attune_proto::retrieval::v1::retrieval_service_server::RetrievalServiceServer;
use attune_serving::SharedServing;
use attune_storage::EventLog;
use attune_telemetry::Telemetry;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tonic::service::Routes;

/// What the service stands on.
pub struct Deps {
    /// Shared by the services of a process, or this service's own.
    pub serving: SharedServing,
    /// Follows item updates itself; `None` where somebody else in the process keeps `serving` current.
    pub item_updates: Option<Arc<dyn EventLog>>,
    /// Live events for the trending list; without it the list stays with the model's favourites.
    pub user_events: Option<Arc<dyn EventLog>>,
    pub telemetry: Telemetry,
    /// True ends the tasks.
    pub stop: watch::Receiver<bool>,
}

/// A service ready to serve. Its tasks have to be run beside it.
pub struct Built {
    pub routes: Routes,
    pub tasks: Vec<BoxFuture<'static, ()>>,
    pub retriever: Arc<Retriever>,
}

/// Wires the service. Ready at once: until the graph is built or its snapshot read, searches are exact.
pub async fn build(config: &RetrievalConfig, deps: Deps) -> Result<Built, RetrievalError> {
    let metrics = telemetry::RetrievalMetrics::register(&deps.telemetry);
    let (index_config, snapshots) = (config.index(), config.snapshots());
    let first = tokio::task::spawn_blocking({
        let (serving, config, snapshots) = (deps.serving.load_full(), index_config.clone(), snapshots.clone());
        move || view::View::derive(serving, None, &config, snapshots.as_deref())
    });
    let view = first.await.map_err(|_| RetrievalError::Panicked)??;
    let retriever = Arc::new(Retriever::new(deps.serving.clone(), view, sources::all(), config, metrics));
    let changed = Arc::new(Notify::new());
    let mut tasks: Vec<BoxFuture<'static, ()>> = vec![Box::pin(follow::keep_views(
        Arc::clone(&retriever),
        index_config,
        snapshots,
        Arc::clone(&changed),
        deps.stop.clone(),
    ))];
    tasks.push(Box::pin(shadow::repeat(Arc::clone(&retriever.shadow), deps.telemetry.clone(), deps.stop.clone())));
    if let Some(log) = deps.item_updates {
        let notify = move |_: &attune_serving::Serving| changed.notify_one();
        tasks.push(Box::pin(attune_serving::follow(deps.serving, log, notify, deps.stop.clone())));
    }
    if let Some(log) = deps.user_events {
        let trending = trending::Trending::new(config.trending.half_life.0, config.trending.max_items);
        let replay = config.trending.replay;
        tasks.push(Box::pin(follow::keep_trending(Arc::clone(&retriever), log, trending, replay, deps.stop)));
    }
    let routes = Routes::new(RetrievalServiceServer::new(grpc::RetrievalGrpc::new(Arc::clone(&retriever))));
    Ok(Built { routes, tasks, retriever })
}
