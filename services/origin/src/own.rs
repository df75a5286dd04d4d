//! The origin as a process of its own: opens the logs it owns, and reaches the rest over gRPC.

use crate::{Clients, OriginConfig, OriginDeps, build};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use attune_rpc::{Channel, ClientConfig};
use attune_runtime::{Exit, Fatal, Host, OrExit as _, Service};
use attune_serving::OpenError;
use attune_storage::{
    EmbeddedDecisionLog, EventLogGrpc, FeatureOptions, FeatureStore, RemoteFeatureStore, StorageError, Topic,
    must_restart, open_event_log, open_feature_store,
};
use std::sync::Arc;
use std::time::Duration;
use tonic::service::Routes;

pub async fn service(config: OriginConfig, host: Host) -> anyhow::Result<Service> {
    let own = &config.own;
    let opened =
        open_event_log(&own.event_log, &config.engines, &host.instance, host.clock.clone(), Some(&host.telemetry))
            .await;
    let event_log = opened.map_err(refused)?;
    let decision_log = Arc::new(
        EmbeddedDecisionLog::open(&own.decision_log).context("open the decision log").or_exit(Exit::TryLater)?,
    );
    let serving = attune_serving::open(&own.bundle, &*event_log, own.patience.get()).await.map_err(fatal)?;
    let client = ClientConfig::default();
    let channel = |peer, address: &str| Channel::remote(peer, address, &client, &host.telemetry).or_exit(Exit::Usage);
    let clients = Clients::new(
        channel("retrieval", &own.retrieval)?,
        channel("ranking", &own.ranking)?,
        channel("bandit", &own.bandit)?,
        channel("llm", &own.llm)?,
    );
    let features: Arc<dyn FeatureStore> = if own.features.is_empty() {
        Arc::new(RemoteFeatureStore::new(channel("embedder", &own.embedder)?, own.timeout.get()))
    } else {
        let partitions = event_log.partitions(Topic::UserEvents).await.map_err(refused)?.len();
        // A reader goes by the half-life that the sums were written under.
        let options = FeatureOptions::hourly(Duration::MAX, host.clock.clone());
        open_feature_store(&own.features, &config.engines, partitions, options, &host.telemetry)
            .await
            .map_err(refused)?
    };
    let deps = OriginDeps {
        clients,
        event_log: Arc::clone(&event_log),
        decision_log,
        features,
        serving: Arc::new(ArcSwap::from_pointee(serving)),
        telemetry: host.telemetry.clone(),
        clock: host.clock.clone(),
        shutdown: host.shutdown.clone(),
    };
    let mut origin = build(config, deps);
    let routes = Routes::new(origin.service).add_service(EventLogGrpc::server(event_log, host.shutdown.flag()));
    let background = async move {
        while let Some(ended) = origin.tasks.join_next().await {
            ended.context("background work panicked")?;
        }
        Ok(())
    };
    let mut stop = host.shutdown.flag();
    let closed = async move {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            error = must_restart() => Err(refused(error).into()),
        }
    };
    Ok(Service { routes: Some(routes), background: vec![Box::pin(background), Box::pin(closed)], ..Service::default() })
}

fn refused(error: StorageError) -> Fatal {
    Fatal::new(Exit::from_code(error.exit_code()).unwrap_or(Exit::Internal), error)
}

fn fatal(error: OpenError) -> Fatal {
    match error {
        OpenError::Away => Fatal::new(Exit::TryLater, error),
        error => Fatal::new(Exit::Data, error),
    }
}
