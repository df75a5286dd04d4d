//! The embedder as a process of its own: owns the feature store and the posteriors, and serves them to the others.

use crate::{Embedder, EmbedderConfig};
use anyhow::Context as _;
use attune_rpc::{Channel, ClientConfig};
use attune_runtime::{Exit, Fatal, Host, OrExit as _, Service};
use attune_storage::{
    EventLog, FeatureStoreGrpc, RemoteEventLog, StorageError, Topic, is_engine, open_event_log, open_feature_store,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::service::Routes;

const ASK_AGAIN: Duration = Duration::from_millis(100);

pub async fn service(config: EmbedderConfig, host: Host) -> anyhow::Result<Service> {
    let own = &config.own;
    let options = config.feature_options(host.clock.clone());
    let log: Arc<dyn EventLog> = if own.event_log.is_empty() {
        let origin =
            Channel::remote("origin", &own.origin, &ClientConfig::default(), &host.telemetry).or_exit(Exit::Usage)?;
        Arc::new(RemoteEventLog::new(origin, own.timeout.get()))
    } else {
        open_event_log(&own.event_log, &config.engines, &host.instance, host.clock.clone()).await.map_err(fatal)?
    };
    let partitions = if is_engine(&own.state) { partitions(&*log, own.timeout.get()).await? } else { 1 };
    let store = open_feature_store(&own.state, &config.engines, partitions, options, &host.telemetry);
    let store = store.await.map_err(fatal)?;
    let embedder = Embedder::new(log, Arc::clone(&store), config, host.clock);
    let stats = embedder.stats();
    let stop = host.shutdown.flag();
    let exporting = crate::telemetry::export(stats, host.telemetry.clone(), host.shutdown.flag());
    let exporting = async move {
        exporting.await;
        Ok(())
    };
    let consuming = async move { embedder.run(stop).await.context("consume user-events") };
    Ok(Service {
        routes: Some(Routes::new(FeatureStoreGrpc::server(store))),
        background: vec![Box::pin(consuming), Box::pin(exporting)],
        ..Service::default()
    })
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
