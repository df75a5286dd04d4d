//! The service on its own: the bundle from its folder, the log from its owner.

use crate::{Built, Deps, BanditConfig, build};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use attune_model::Bundle;
use attune_rpc::{Channel, ClientConfig};
use attune_runtime::{Exit, Host, OrExit as _, Service};
use attune_serving::{CatalogueError, Serving, load_catalogue};
use attune_storage::{EventLog, FeatureStore, RemoteEventLog, RemoteFeatureStore};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Duration, timeout};

/// Between two attempts to reach the owner of the log.
const RETRY: Duration = Duration::from_millis(500);

/// Builds the service for a process that owns no store.
pub async fn service(config: BanditConfig, host: Host) -> anyhow::Result<Service> {
    let bundle = Bundle::load(&config.own.bundle).context("load bundle").or_exit(Exit::Data)?;
    let origin = Channel::remote("origin", &config.own.origin, &ClientConfig::default(), &host.telemetry);
    let log = RemoteEventLog::new(origin.or_exit(Exit::Usage)?, config.own.timeout.0);
    let log: Arc<dyn EventLog> = Arc::new(log);
    let embedder = Channel::remote("embedder", &config.own.embedder, &ClientConfig::default(), &host.telemetry);
    let store = RemoteFeatureStore::new(embedder.or_exit(Exit::Usage)?, config.own.timeout.0);
    let store: Arc<dyn FeatureStore> = Arc::new(store);
    let catalogue = timeout(config.own.patience.0, async {
        loop {
            match load_catalogue(&*log).await {
                Err(CatalogueError::Storage(error)) if error.is_retryable() => tokio::time::sleep(RETRY).await,
                read => return read,
            }
        }
    });
    let catalogue = catalogue.await.context("wait for the origin").or_exit(Exit::TryLater)?;
    let catalogue = catalogue.context("read the catalogue").or_exit(Exit::Data)?;
    let serving = Serving::new(Arc::new(bundle), catalogue).or_exit(Exit::Data)?;
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
