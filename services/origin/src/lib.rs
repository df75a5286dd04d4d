//! The API behind every edge: assembles pages, accepts events, owns the event log and the decision log.
//!
//! Always holds: an event is answered only when it is durable; a page is answered whatever is missing, at the level
//! that what is left allows; every page has a record, or the loss is counted.

#![warn(clippy::disallowed_macros)]

mod accept;
mod catalogue;
mod clients;
mod cohort_sets;
mod config;
mod decisions;
mod erase;
mod error;
mod explain;
mod grpc;
mod level;
pub mod log_records;
pub mod own;
mod page;
mod posteriors;
mod push;
mod recent;
mod slate;
mod telemetry;
mod views;
mod watch;

pub use catalogue::CatalogueWriter;
pub use clients::Clients;
pub use config::OriginConfig;
pub use error::OriginError;
pub use grpc::{MAX_LISTED, OriginGrpc};
pub use page::{MissInputs, asked_of_sources, line_scores, miss_candidates, source_items, unseen_of_source};
pub use telemetry::OriginMetrics;

use attune_pipeline::Stages;
use attune_proto::origin::v1::origin_service_server::OriginServiceServer;
use attune_runtime::{Clock, Shutdown};
use attune_serving::SharedServing;
use attune_storage::{DecisionLog, EventLog, FeatureStore};
use attune_telemetry::Telemetry;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The file that is both default and manual.
pub const DEFAULT_CONFIG: &str = include_str!("../config.toml");

/// What an origin is built from.
pub struct OriginDeps {
    pub clients: Clients,
    pub event_log: Arc<dyn EventLog>,
    pub decision_log: Arc<dyn DecisionLog>,
    pub features: Arc<dyn FeatureStore>,
    pub serving: SharedServing,
    pub telemetry: Telemetry,
    pub clock: Clock,
    pub shutdown: Shutdown,
}

/// A running origin: its gRPC service and its background work.
pub struct Origin {
    pub service: OriginServiceServer<OriginGrpc>,
    pub tasks: JoinSet<()>,
}

/// The parts of an origin that its requests share.
pub(crate) struct Parts {
    pub(crate) config: OriginConfig,
    pub(crate) clients: Clients,
    pub(crate) event_log: Arc<dyn EventLog>,
    pub(crate) features: Arc<dyn FeatureStore>,
    pub(crate) serving: SharedServing,
    pub(crate) catalogue: CatalogueWriter,
    pub(crate) decisions: decisions::Decisions,
    pub(crate) cohort_sets: cohort_sets::CohortSets,
    pub(crate) views: views::Snapshots,
    pub(crate) watchers: Arc<watch::Watchers>,
    pub(crate) posteriors: posteriors::SharedPosteriors,
    pub(crate) stages: Stages,
    pub(crate) metrics: OriginMetrics,
    pub(crate) telemetry: Telemetry,
    pub(crate) clock: Clock,
}

/// Wires the parts and starts the background work.
pub fn build(config: OriginConfig, deps: OriginDeps) -> Origin {
    let metrics = OriginMetrics::register(&deps.telemetry);
    metrics.deployed(deps.serving.load().bundle.version(), (deps.clock)() as f64 / 1e3);
    let mut tasks = JoinSet::new();
    let watchers = Arc::new(watch::Watchers::new(config.watch.queue));
    let decisions = decisions::Decisions::start(
        Arc::clone(&deps.decision_log),
        &config,
        metrics.clone(),
        &mut tasks,
        &deps.shutdown,
    );
    let catalogue =
        CatalogueWriter::new(Arc::clone(&deps.event_log), Arc::clone(&deps.serving), Arc::clone(&deps.clock));
    let parts = Arc::new(Parts {
        clients: deps.clients,
        event_log: deps.event_log,
        features: deps.features,
        serving: deps.serving,
        catalogue,
        decisions,
        cohort_sets: cohort_sets::CohortSets::new(&config),
        views: views::Snapshots::new(config.state_snapshots),
        watchers,
        posteriors: posteriors::SharedPosteriors::default(),
        stages: Stages::new(&deps.telemetry, page::STAGES),
        metrics,
        telemetry: deps.telemetry,
        clock: deps.clock,
        config,
    });
    tasks.spawn(posteriors::poll(Arc::clone(&parts), deps.shutdown.clone()));
    tasks.spawn(push::run(Arc::clone(&parts), deps.shutdown.clone()));
    tasks.spawn(watch::heartbeat(Arc::clone(&parts), deps.shutdown.clone()));
    tasks.spawn(decisions::retain(Arc::clone(&parts), deps.shutdown));
    Origin { service: OriginServiceServer::new(OriginGrpc::new(parts)), tasks }
}
