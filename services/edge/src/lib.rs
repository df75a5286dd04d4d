//! The front door: scores cached candidates for each visitor, asks the origin when it cannot, captures events.
//!
//! Always holds: a page is answered whatever is missing, at the level that what is left allows; a raw user id lives in
//! the request handler and nowhere else; an event is acknowledged only when the origin made it durable; every page has a
//! record, or the loss is counted.

#![warn(clippy::disallowed_macros)]

mod config;
mod events;
mod explanation;
mod http;
mod link;
mod object;
mod operator;
pub mod own;
mod page;
mod problem;
mod recorder;
mod request;
mod score;
mod sets;
mod telemetry;
mod users;

pub use config::EdgeConfig;
pub use http::{BoundEdge, bind};
pub use operator::Operator;
pub use score::{Candidates, HitInputs, decide};
pub use telemetry::EdgeMetrics;

use arc_swap::ArcSwap;
use attune_decision::{Policy, Posteriors};
use attune_identity::SubjectKey;
use attune_proto::origin::v1::origin_service_client::OriginServiceClient;
use attune_rpc::Channel;
use attune_runtime::{Clock, Shutdown};
use attune_serving::SharedServing;
use attune_telemetry::{ModelDeployed, Name, Telemetry};
use object::Object;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The file that is both default and manual.
pub const DEFAULT_CONFIG: &str = include_str!("../config.toml");

/// What an edge is built from.
pub struct EdgeDeps {
    pub origin: Channel,
    pub serving: SharedServing,
    pub subject_key: SubjectKey,
    pub telemetry: Telemetry,
    pub clock: Clock,
    pub shutdown: Shutdown,
}

/// Why an edge could not be built.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    #[error("pop must be 1 to 64 letters, digits or any of . _ : / -")]
    Pop,
}

/// Posterior counts, and the object that records name.
pub(crate) struct HeldPosteriors {
    pub(crate) posteriors: Posteriors,
    pub(crate) object: Object,
}

/// The parts of an edge that its requests share.
pub(crate) struct Parts {
    pub(crate) config: EdgeConfig,
    pub(crate) policy: Policy,
    pub(crate) pop: Name,
    pub(crate) origin: OriginServiceClient<Channel>,
    pub(crate) serving: SharedServing,
    pub(crate) posteriors: ArcSwap<HeldPosteriors>,
    /// A visitor of whom nothing is known, under the bundle that is serving.
    pub(crate) nobody: ArcSwap<users::UserEntry>,
    pub(crate) users: users::Users,
    pub(crate) sets: sets::Sets,
    pub(crate) followed: link::Followed,
    pub(crate) recorder: Arc<recorder::Recorder>,
    pub(crate) origin_calls: Semaphore,
    /// When the origin was last heard of, by this edge's clock.
    pub(crate) origin_heard: AtomicI64,
    pub(crate) subject_key: SubjectKey,
    pub(crate) metrics: EdgeMetrics,
    pub(crate) telemetry: Telemetry,
    pub(crate) clock: Clock,
}

/// An edge that is wired, with its background work.
#[derive(Clone)]
pub struct Edge {
    pub(crate) parts: Arc<Parts>,
}

/// Wires the parts and starts following the origin.
pub fn build(config: EdgeConfig, deps: EdgeDeps, tasks: &mut JoinSet<()>) -> Result<Edge, EdgeError> {
    let metrics = EdgeMetrics::register(&deps.telemetry, &config.pop);
    let origin = OriginServiceClient::new(deps.origin);
    let recorder = recorder::Recorder::new(origin.clone(), config.records.clone(), metrics.clone());
    let serving = deps.serving.load_full();
    let followed = link::Followed::default();
    let dropped = followed.clone();
    let parts = Arc::new(Parts {
        policy: Policy::from(&config.policy),
        pop: Name::new(&config.pop).ok_or(EdgeError::Pop)?,
        origin,
        posteriors: ArcSwap::from_pointee(HeldPosteriors {
            posteriors: Posteriors::default(),
            object: Object::new(Vec::new()),
        }),
        nobody: ArcSwap::from_pointee(users::UserEntry::empty(&serving)),
        users: users::Users::new(config.cache.users, move |uid| dropped.drop_later(uid)),
        sets: sets::Sets::new(config.cache.cohorts, config.cache.fresh.get(), config.cache.stale.get()),
        followed,
        recorder: Arc::clone(&recorder),
        origin_calls: Semaphore::new(config.limits.origin_calls),
        origin_heard: AtomicI64::new(i64::MIN / 2),
        serving: deps.serving,
        subject_key: deps.subject_key,
        metrics,
        telemetry: deps.telemetry,
        clock: deps.clock,
        config,
    });
    let model_version = serving.bundle.version().clone();
    parts.telemetry.log(&ModelDeployed { model_version }, None);
    tasks.spawn(recorder.run(deps.shutdown.clone()));
    tasks.spawn(link::follow(Arc::clone(&parts), deps.shutdown));
    Ok(Edge { parts })
}

impl Edge {
    /// Whether the origin has been heard of, so that the catalogue and the posteriors are there.
    pub fn is_ready(&self) -> bool {
        self.parts.origin_is_near((self.parts.clock)())
    }
}

impl Parts {
    /// Whether the origin was heard of within the time a state may be behind.
    pub(crate) fn origin_is_near(&self, now: attune_domain::UnixMillis) -> bool {
        let heard = self.origin_heard.load(std::sync::atomic::Ordering::Relaxed);
        now - heard <= self.config.cache.behind.get().as_millis() as i64
    }
}
