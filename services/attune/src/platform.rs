//! The whole platform in one process: every service behind its own contract, without a socket between them.

use crate::places;
use crate::settings::Settings;
use crate::state::StateFolder;
use crate::up::ReadyLine;
use anyhow::Context as _;
use arc_swap::ArcSwap;
use attune_edge::{EdgeDeps, Operator};
use attune_embedder::Embedder;
use attune_embedder::insight::InsightDeps;
use attune_origin::{Clients, OriginDeps};
use attune_rpc::Channel;
use attune_runtime::admin::{self, AdminState, Extra};
use attune_runtime::{Clock, Exit, OrExit as _, Ready, Shutdown, grpc, resources};
use attune_serving::Serving;
use attune_storage::{
    EmbeddedDecisionLog, EventLog, EventLogGrpc, FeatureStore, FeatureStoreGrpc, Topic, USER_EVENTS_CONSUMER,
    check_checkpoints, open_feature_store, partition_of,
};
use attune_telemetry::grpc::GrpcServerLayer;
use attune_telemetry::{Guard, ServiceInfo, Telemetry};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::service::Routes;

const DRAIN: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(10);
/// What engines know the one process by.
const INSTANCE: &str = "attune-0";

/// A platform that serves.
pub(crate) struct Running {
    pub(crate) edge: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) origin_grpc: String,
    serving: Arc<Serving>,
    pub(crate) users: u64,
    pub(crate) shutdown: Shutdown,
    tasks: JoinSet<()>,
    origin_server: grpc::Serving,
    serving_edge: tokio::task::JoinHandle<()>,
    _telemetry: Guard,
}

/// The stores of a state folder, open in this process.
struct Stores {
    event_log: Arc<dyn EventLog>,
    decision_log: Arc<EmbeddedDecisionLog>,
    features: Arc<dyn FeatureStore>,
}

impl Stores {
    /// A folder in use by another process is refused with exit code 75.
    /// `telemetry` hears what engines do.
    async fn open(
        state: &StateFolder,
        settings: &Settings,
        clock: Clock,
        telemetry: &Telemetry,
    ) -> anyhow::Result<Self> {
        if let Some(folder) = settings.embedder.checkpoints() {
            check_checkpoints(folder).or_exit(Exit::Data)?;
        }
        let options = settings.embedder.feature_options(clock);
        let open = |what: &'static str| move || format!("open {what} in {}", state.root().display());
        let event_log = places::event_log(settings, INSTANCE, Some(telemetry)).await?;
        let decisions = EmbeddedDecisionLog::open(&state.decision_log());
        let partitions = event_log.partitions(Topic::UserEvents).await.context("read the event log")?.len();
        let (place, engines) = (&settings.embedder.own.state, &settings.embedder.engines);
        let features = open_feature_store(place, engines, partitions, options, telemetry).await;
        Ok(Self {
            event_log,
            decision_log: Arc::new(places::refuse(decisions, open("the decision log"))?),
            features: places::refuse(features, || format!("open the feature store in {place}"))?,
        })
    }
}

/// Opens the stores, starts every service and answers when all are ready. `clock` gives the time that decisions are made
/// at, `store_clock` the time at which evidence is weighed.
pub(crate) async fn start(
    state: &StateFolder,
    mut settings: Settings,
    store_clock: Clock,
    clock: Clock,
) -> anyhow::Result<Running> {
    let shutdown = Shutdown::new();
    let mut tasks = JoinSet::new();
    let info = |service| ServiceInfo { service, version: env!("CARGO_PKG_VERSION"), instance: "local".to_owned() };
    let (edge_telemetry, guard) =
        Telemetry::start(&settings.edge.process.telemetry, info("edge"), clock.clone()).or_exit(Exit::Usage)?;
    attune_runtime::log_panics(&edge_telemetry);
    let telemetry = |service| edge_telemetry.service(info(service));
    let [origin_t, retrieval_t, ranking_t, bandit_t, llm_t, embedder_t] =
        ["origin", "retrieval", "ranking", "bandit", "llm", "embedder"].map(telemetry);

    // In one process nobody calls the embedder, but its request metrics are there, at zero.
    let _uncalled = GrpcServerLayer::new(&embedder_t);
    let Stores { event_log, decision_log, features } = Stores::open(state, &settings, store_clock, &embedder_t).await?;
    let embedder =
        Embedder::new(Arc::clone(&event_log), Arc::clone(&features), settings.embedder.clone(), clock.clone())
            .telling(embedder_t.clone());
    let on_kafka = attune_storage::is_engine(&settings.origin.own.event_log);
    tasks.spawn(attune_embedder::telemetry::export(embedder.stats(), on_kafka, embedder_t.clone(), shutdown.flag()));
    let stop = shutdown.flag();
    let stopped = shutdown.clone();
    tasks.spawn(async move {
        if embedder.run(stop).await.is_err() {
            // Without its consumer the platform would answer from ever older state and not say so.
            stopped.trigger();
        }
    });
    catch_up(&*event_log, &*features).await?;

    let bundle = state.bundle().context("find the live bundle")?;
    settings.edge.own.bundle.clone_from(&bundle);
    let serving = Arc::new(attune_serving::open(&bundle, &*event_log, PATIENCE).await.or_exit(Exit::Data)?);
    // Each service follows the catalogue on its own, as it would in a process of its own.
    let own = || Arc::new(ArcSwap::new(Arc::clone(&serving)));

    let insight = InsightDeps {
        log: Arc::clone(&event_log),
        store: Arc::clone(&features),
        serving: Some(own()),
        telemetry: embedder_t.clone(),
        clock: clock.clone(),
    };
    tasks.spawn(attune_embedder::insight::run(settings.embedder.insight.clone(), insight, shutdown.flag()));

    let retrieval = attune_retrieval::build(
        &settings.retrieval,
        attune_retrieval::Deps {
            serving: own(),
            item_updates: Some(Arc::clone(&event_log)),
            user_events: Some(Arc::clone(&event_log)),
            telemetry: retrieval_t.clone(),
            stop: shutdown.flag(),
        },
    )
    .await
    .context("build retrieval")?;
    let ranking = attune_ranking::build(
        &settings.ranking,
        attune_ranking::Deps {
            serving: own(),
            item_updates: Some(Arc::clone(&event_log)),
            telemetry: ranking_t.clone(),
            stop: shutdown.flag(),
        },
    );
    let bandit = attune_bandit::build(
        &settings.bandit,
        attune_bandit::Deps {
            serving: own(),
            item_updates: Some(Arc::clone(&event_log)),
            store: Arc::clone(&features),
            telemetry: bandit_t.clone(),
            stop: shutdown.flag(),
        },
    )
    .await;
    let llm = attune_llm::routes(&settings.llm, &llm_t, clock.clone()).or_exit(Exit::Usage)?;
    retrieval.tasks.into_iter().chain(ranking.tasks).chain(bandit.tasks).for_each(|task| {
        tasks.spawn(task);
    });

    let clients = Clients::new(
        Channel::local("retrieval", retrieval.routes, &retrieval_t, &origin_t),
        Channel::local("ranking", ranking.routes, &ranking_t, &origin_t),
        Channel::local("bandit", bandit.routes, &bandit_t, &origin_t),
        Channel::local("llm", llm, &llm_t, &origin_t),
    );
    let origin = attune_origin::build(
        settings.origin.clone(),
        OriginDeps {
            clients,
            event_log: Arc::clone(&event_log),
            decision_log,
            features: Arc::clone(&features),
            serving: own(),
            telemetry: origin_t.clone(),
            clock: clock.clone(),
            shutdown: shutdown.clone(),
        },
    );
    let mut origin_tasks = origin.tasks;
    tasks.spawn(async move { while origin_tasks.join_next().await.is_some() {} });

    let ready = Ready::new();
    let routes = Routes::new(origin.service.clone())
        .add_service(EventLogGrpc::server(Arc::clone(&event_log), shutdown.flag()))
        .add_service(FeatureStoreGrpc::server(Arc::clone(&features)));
    let origin_server =
        grpc::serve(&settings.origin.process.grpc, routes, attune_proto::DESCRIPTORS, &origin_t, &ready, &shutdown)
            .await
            .or_exit(Exit::TryLater)?;

    let edge_ready = ready.require("edge");
    let process = settings.edge.process.clone();
    let deps = EdgeDeps {
        origin: Channel::local("origin", Routes::new(origin.service), &origin_t, &edge_telemetry),
        serving: own(),
        subject_key: state.subject_key()?,
        telemetry: edge_telemetry.clone(),
        clock: clock.clone(),
        shutdown: shutdown.clone(),
    };
    let edge = attune_edge::build(settings.edge, deps, &mut tasks).context("build edge")?;
    while !edge.is_ready() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let operator = Operator::new(&edge);
    let bound = attune_edge::bind(edge).await.context("listen for visitors").or_exit(Exit::TryLater)?;
    let address = bound.address;
    let serving_edge = tokio::spawn(bound.serve(shutdown.clone(), DRAIN));

    let extra: Extra = Arc::new(move |request| {
        let operator = operator.clone();
        Box::pin(async move { Some(operator.handle(request).await) })
    });
    resources::watch(&edge_telemetry, &shutdown).await;
    let admin_state = AdminState {
        telemetries: vec![edge_telemetry, origin_t, retrieval_t, ranking_t, bandit_t, llm_t, embedder_t],
        ready: ready.clone(),
        extra: Some(extra),
    };
    let admin = admin::serve(process.admin, admin_state, &shutdown, DRAIN)
        .await
        .with_context(|| format!("listen on admin address {}", process.admin))
        .or_exit(Exit::TryLater)?;
    edge_ready.up();
    Ok(Running {
        edge: address,
        admin,
        origin_grpc: origin_server.bound.to_string(),
        users: features.user_count().await.context("count visitors")?,
        serving,
        shutdown,
        tasks,
        origin_server,
        serving_edge,
        _telemetry: guard,
    })
}

impl Running {
    pub(crate) fn ready(&self) -> ReadyLine {
        let mut line = ReadyLine::new(format!("http://{}", self.edge), self.origin_grpc.clone());
        line.admin = crate::settings::SERVICES.map(|name| (name, format!("http://{}", self.admin))).into();
        line.model_version = self.serving.bundle.version().to_string();
        line.items = self.serving.catalogue.len();
        line.users = self.users;
        line
    }

    /// Waits for the end, and drains: visitors' connections first, then the services behind them.
    pub(crate) async fn ended(mut self) -> anyhow::Result<()> {
        self.shutdown.wait().await;
        self.serving_edge.await.context("serve visitors")?;
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.origin_server.ended().await.context("drain the origin")
    }
}

/// Waits until the feature store has applied everything the log holds.
pub(crate) async fn catch_up(log: &dyn EventLog, features: &dyn FeatureStore) -> anyhow::Result<()> {
    let partitions = log.partitions(Topic::UserEvents).await.context("read the event log")?;
    let mut missing = Vec::with_capacity(partitions.len());
    for end in partitions.into_iter().map(|bounds| bounds.end) {
        let from =
            features.progress(USER_EVENTS_CONSUMER, partition_of(end)).await.context("read the feature store")?;
        missing.push((from, end));
    }
    let all: u64 = missing.iter().map(|(from, end)| end.saturating_sub(*from)).sum();
    let bar = crate::output::progress_bar("applying the event log", all);
    let mut done = 0;
    for (from, end) in missing {
        let mut applied = from;
        while applied < end {
            let wait = Duration::from_millis(200);
            applied = features.wait_applied(USER_EVENTS_CONSUMER, end, wait).await.context("apply the event log")?;
            bar.set_position(done + applied.min(end) - from);
        }
        done += end.saturating_sub(from);
    }
    bar.finish_and_clear();
    Ok(())
}
