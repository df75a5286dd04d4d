//! The service on its own: the bundle from its folder, the log from its owner.

use crate::{BanditConfig, Built, Deps, build};
use arc_swap::ArcSwap;
use attune_rpc::{Channel, ClientConfig};
use attune_runtime::{Exit, Fatal, Host, OrExit as _, Service};
use attune_serving::{OpenError, open};
use attune_storage::{EventLog, FeatureStore, RemoteEventLog, RemoteFeatureStore};
use std::sync::Arc;
use tokio::sync::watch;

/// Builds the service for a process that owns no store.
pub async fn service(config: BanditConfig, host: Host) -> anyhow::Result<Service> {
    let origin = Channel::remote("origin", &config.own.origin, &ClientConfig::default(), &host.telemetry);
    let log = RemoteEventLog::new(origin.or_exit(Exit::Usage)?, config.own.timeout.0);
    let log: Arc<dyn EventLog> = Arc::new(log);
    let embedder = Channel::remote("embedder", &config.own.embedder, &ClientConfig::default(), &host.telemetry);
    let store = RemoteFeatureStore::new(embedder.or_exit(Exit::Usage)?, config.own.timeout.0);
    let store: Arc<dyn FeatureStore> = Arc::new(store);
    let serving = open(&config.own.bundle, &*log, config.own.patience.0).await;
    let serving = serving.map_err(|error| match error {
        OpenError::Away => Fatal::new(Exit::TryLater, error),
        error => Fatal::new(Exit::Data, error),
    })?;
    let (stop, stopped) = watch::channel(false);
    let deps = Deps {
        serving: Arc::new(ArcSwap::from_pointee(serving)),
        item_updates: Some(log),
        store,
        telemetry: host.telemetry.clone(),
        stop: stopped,
    };
    let built = build(&config, deps).await;
    let Built { routes, tasks, .. } = built;
    let mut service = Service::grpc(routes);
    service.background.extend(tasks.into_iter().map(|task| -> futures::future::BoxFuture<'static, _> {
        Box::pin(async move {
            task.await;
            Ok(())
        })
    }));
    service.background.push(Box::pin(async move {
        host.shutdown.wait().await;
        stop.send_replace(true);
        Ok(())
    }));
    Ok(service)
}
