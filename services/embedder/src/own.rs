//! The embedder as a process of its own: owns the feature store and the posteriors, and serves them to the others.

use crate::insight::{InsightDeps, run};
use crate::{Embedder, EmbedderConfig};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use attune_rpc::{Channel, ClientConfig};
use attune_runtime::{Exit, Fatal, Host, OrExit as _, Service};
use attune_serving::{OpenError, SharedServing};
use attune_storage::{
    EventLog, FeatureStore, FeatureStoreGrpc, RemoteEventLog, StorageError, Topic, check_checkpoints, is_engine,
    must_restart, open_event_log, open_feature_store,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::service::Routes;

const OPEN_PATIENCE: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub async fn service(config: EmbedderConfig, host: Host) -> anyhow::Result<Service> {
    let own = &config.own;
    if let Some(folder) = config.checkpoints() {
        check_checkpoints(folder).or_exit(Exit::Data)?;
    }
    let options = config.feature_options(host.clock.clone());
    let log: Arc<dyn EventLog> = if own.event_log.is_empty() {
        let origin =
            Channel::remote("origin", &own.origin, &ClientConfig::default(), &host.telemetry).or_exit(Exit::Usage)?;
        Arc::new(RemoteEventLog::new(origin, own.timeout.get()))
    } else {
        open_event_log(&own.event_log, &config.engines, &host.instance, host.clock.clone(), Some(&host.telemetry))
            .await
            .map_err(fatal)?
    };
    let on_kafka = is_engine(&own.event_log);
    let partitions = if is_engine(&own.state) { partitions(&*log, own.timeout.get()).await? } else { 1 };
    let store = open_feature_store(&own.state, &config.engines, partitions, options, &host.telemetry);
    let store = store.await.map_err(fatal)?;
    let insight = insight(&config, &host, &log, &store);
    let embedder = Embedder::new(log, Arc::clone(&store), config, host.clock).telling(host.telemetry.clone());
    let stats = embedder.stats();
    let stop = host.shutdown.flag();
    let exporting = crate::telemetry::export(stats, on_kafka, host.telemetry.clone(), host.shutdown.flag());
    let exporting = async move {
        exporting.await;
        Ok(())
    };
    let consuming = async move { embedder.run(stop).await.context("consume user-events") };
    let mut stop = host.shutdown.flag();
    let closed = async move {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            error = must_restart() => Err(fatal(error).into()),
        }
    };
    Ok(Service {
        routes: Some(Routes::new(FeatureStoreGrpc::server(store))),
        background: vec![Box::pin(consuming), Box::pin(exporting), Box::pin(insight), Box::pin(closed)],
        ..Service::default()
    })
}

/// The metrics of the stream: once the log's owner has the catalogue, which may be after everybody waits for this process.
fn insight(
    config: &EmbedderConfig,
    host: &Host,
    log: &Arc<dyn EventLog>,
    store: &Arc<dyn FeatureStore>,
) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let (bundle, settings) = (config.own.bundle.clone(), config.insight.clone());
    let (log, store, stop) = (Arc::clone(log), Arc::clone(store), host.shutdown.flag());
    let (telemetry, clock) = (host.telemetry.clone(), host.clock.clone());
    async move {
        let mut stopping = stop.clone();
        let serving = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            serving = model(&bundle, &*log) => serving.context("open the bundle")?,
        };
        let deps = InsightDeps { log, store, serving, telemetry, clock };
        run(settings, deps, stop).await;
        Ok(())
    }
}

/// None where no bundle is named.
async fn model(bundle: &Path, log: &dyn EventLog) -> Result<Option<SharedServing>, OpenError> {
    if bundle.as_os_str().is_empty() {
        return Ok(None);
    }
    loop {
        match attune_serving::open(bundle, log, OPEN_PATIENCE).await {
            Err(OpenError::Away) => {}
            opened => return Ok(Some(Arc::new(ArcSwap::from_pointee(opened?)))),
        }
    }
}

/// Of the log, whose owner may still be starting.
async fn partitions(log: &dyn EventLog, patience: Duration) -> Result<usize, Fatal> {
    let limit = Instant::now() + patience;
    loop {
        match log.partitions(Topic::UserEvents).await {
            Ok(partitions) => return Ok(partitions.len()),
            Err(error) if error.is_retryable() && Instant::now() < limit => tokio::time::sleep(ASK_AGAIN).await,
            Err(error) => return Err(fatal(error)),
        }
    }
}

fn fatal(error: StorageError) -> Fatal {
    Fatal::new(Exit::from_code(error.exit_code()).unwrap_or(Exit::Internal), error)
}
