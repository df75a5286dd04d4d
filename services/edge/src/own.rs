//! The edge as a process of its own: learns the catalogue from the origin, then opens its port.

use crate::{EdgeConfig, EdgeDeps, Operator, bind, build};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use attune_identity::SubjectKey;
use attune_rpc::{Channel, ClientConfig};
use attune_runtime::{Exit, Fatal, Host, OrExit as _, Service};
use attune_serving::OpenError;
use attune_storage::RemoteEventLog;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const POLL: Duration = Duration::from_millis(20);

pub async fn service(config: EdgeConfig, host: Host) -> anyhow::Result<Service> {
    let own = &config.own;
    let subject_key = SubjectKey::load(&own.subject_key).or_exit(Exit::Data)?;
    let origin =
        Channel::remote("origin", &own.origin, &ClientConfig::default(), &host.telemetry).or_exit(Exit::Usage)?;
    let log = RemoteEventLog::new(origin.clone(), own.timeout.get());
    let serving = attune_serving::open(&own.bundle, &log, own.patience.get()).await.map_err(fatal)?;
    let drain = config.process.grpc.drain.get();
    let deps = EdgeDeps {
        origin,
        serving: Arc::new(ArcSwap::from_pointee(serving)),
        subject_key,
        telemetry: host.telemetry.clone(),
        clock: host.clock.clone(),
        shutdown: host.shutdown.clone(),
    };
    let mut tasks = JoinSet::new();
    let edge = build(config, deps, &mut tasks)?;
    while !edge.is_ready() {
        tokio::time::sleep(POLL).await;
    }
    let operator = Operator::new(&edge);
    let bound = bind(edge).await.context("listen for visitors").or_exit(Exit::TryLater)?;
    let shutdown = host.shutdown.clone();
    let background = async move {
        bound.serve(shutdown, drain).await;
        while let Some(ended) = tasks.join_next().await {
            ended.context("background work panicked")?;
        }
        Ok(())
    };
    Ok(Service {
        admin: Some(Arc::new(move |request| {
            let operator = operator.clone();
            Box::pin(async move { Some(operator.handle(request).await) })
        })),
        background: vec![Box::pin(background)],
        ..Service::default()
    })
}

fn fatal(error: OpenError) -> Fatal {
    match error {
        OpenError::Away => Fatal::new(Exit::TryLater, error),
        error => Fatal::new(Exit::Data, error),
    }
}
