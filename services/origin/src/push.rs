//! Version pushes: when a visitor's state moves, every edge that holds the visitor hears it and gets a new view.

use crate::telemetry::Step;
use crate::{Parts, views};
use attune_domain::{StateVersion, Uid};
use attune_proto::state::v1 as wire;
use attune_rpc::{Deadline, Scope};
use attune_runtime::Shutdown;
use attune_storage::{Record, Topic};
use attune_telemetry::Kind;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const BATCH: usize = 4096;
const WAIT: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_millis(200);
/// Visitors waiting for a new list; beyond it they keep the old one, which their edge moves with the dot product.
const MAX_WAITING: usize = 20_000;
const VIEW_DEADLINE: Duration = Duration::from_millis(500);

struct Waiting {
    version: StateVersion,
    not_before: Instant,
}

/// Follows the `state-versions` topic until told to stop.
pub(crate) async fn run(parts: Arc<Parts>, shutdown: Shutdown) {
    let mut next = loop {
        match parts.event_log.bounds(Topic::StateVersions).await {
            Ok(bounds) => break bounds.end,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    };
    let mut waiting: HashMap<Uid, Waiting> = HashMap::new();
    let mut last_built: HashMap<Uid, Instant> = HashMap::new();
    let mut rebuilding = JoinSet::new();
    let every = parts.config.watch.rebuild_every.get();
    loop {
        let records = tokio::select! {
            () = shutdown.wait() => return,
            Some(_) = rebuilding.join_next(), if !rebuilding.is_empty() => Ok(Vec::new()),
            records = parts.event_log.read(Topic::StateVersions, next, BATCH, WAIT) => records,
        };
        let Ok(records) = records else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        for (offset, record) in &records {
            next = offset + 1;
            let Some((uid, version)) = decode(record) else { continue };
            if !parts.watchers.is_followed(&uid) {
                continue;
            }
            parts.watchers.version_moved(uid, version);
            if waiting.len() < MAX_WAITING || waiting.contains_key(&uid) {
                let not_before = last_built.get(&uid).map_or_else(Instant::now, |built| *built + every);
                waiting.entry(uid).and_modify(|w| w.version = version).or_insert(Waiting { version, not_before });
            } else {
                parts.metrics.push_skipped();
            }
        }
        let now = Instant::now();
        last_built.retain(|_, built| now.duration_since(*built) < every);
        let free = parts.config.watch.rebuilds.saturating_sub(rebuilding.len());
        let ready: Vec<Uid> =
            waiting.iter().filter(|(_, w)| w.not_before <= now).map(|(uid, _)| *uid).take(free).collect();
        for uid in ready {
            let Some(Waiting { version, .. }) = waiting.remove(&uid) else { continue };
            last_built.insert(uid, now);
            let parts = Arc::clone(&parts);
            rebuilding.spawn(async move {
                let id = parts.telemetry.new_id();
                let span = parts.telemetry.root("api.push_view", Kind::Internal, None, id).guard();
                let scope = Scope::new(span.clone(), Deadline::after(VIEW_DEADLINE));
                match views::build(&parts, &scope, uid, version.next_offset, (parts.clock)()).await {
                    Ok(view) => parts.watchers.view_rebuilt(uid, view),
                    Err(_) => parts.metrics.background_failed(Step::PushView),
                }
            });
        }
    }
}

fn decode(record: &Record) -> Option<(Uid, StateVersion)> {
    let version = wire::StateVersion::decode(&record.value[..]).ok()?;
    Some((Uid::from_slice(&record.key)?, version.into()))
}
