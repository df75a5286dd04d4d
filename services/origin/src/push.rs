//! Version pushes: when a visitor's state moves, every edge that holds the visitor gets the state at once, and a new list
//! when there is time for it; until then the edge moves the old list with the state.

use crate::telemetry::Step;
use crate::watch::Held;
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
/// Between two pushes of one visitor's state.
const STATES_EVERY: Duration = Duration::from_millis(20);
/// States read at once.
const STATES: usize = 512;
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
    // Moved since the last push.
    let mut moved: HashMap<Uid, StateVersion> = HashMap::new();
    let mut push_at = Instant::now();
    let mut waiting: HashMap<Uid, Waiting> = HashMap::new();
    let mut last_built: HashMap<Uid, Instant> = HashMap::new();
    let mut rebuilding = JoinSet::new();
    let every = parts.config.watch.rebuild_every.get();
    loop {
        let wait = if moved.is_empty() { WAIT } else { push_at.saturating_duration_since(Instant::now()) };
        let records = tokio::select! {
            () = shutdown.wait() => return,
            held = parts.watchers.held() => {
                catch_up(&parts, held).await;
                Ok(Vec::new())
            }
            Some(_) = rebuilding.join_next(), if !rebuilding.is_empty() => Ok(Vec::new()),
            records = parts.event_log.read(Topic::StateVersions, next, BATCH, wait) => records,
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
            moved.insert(uid, version);
            if waiting.len() < MAX_WAITING || waiting.contains_key(&uid) {
                let not_before = last_built.get(&uid).map_or_else(Instant::now, |built| *built + every);
                waiting.entry(uid).and_modify(|w| w.version = version).or_insert(Waiting { version, not_before });
            } else {
                parts.metrics.push_skipped();
            }
        }
        if !moved.is_empty() && Instant::now() >= push_at {
            moved = push_states(&parts, std::mem::take(&mut moved)).await;
            push_at = Instant::now() + if moved.is_empty() { STATES_EVERY } else { RETRY };
        }
        let now = Instant::now();
        last_built.retain(|_, built| now.duration_since(*built) < every);
        let free = parts.config.watch.rebuilds.saturating_sub(rebuilding.len());
        for uid in due(&waiting, now, free) {
            let Some(Waiting { version, .. }) = waiting.remove(&uid) else { continue };
            last_built.insert(uid, now);
            let parts = Arc::clone(&parts);
            rebuilding.spawn(async move {
                let id = parts.telemetry.new_id();
                let span = parts.telemetry.root("api.push_view", Kind::Internal, None, id).guard();
                let scope = Scope::new(span.clone(), Deadline::after(VIEW_DEADLINE));
                match views::build(&parts, &scope, uid, version.next_offset, (parts.clock)()).await {
                    Ok(view) => parts.watchers.view_moved(uid, view),
                    Err(_) => parts.metrics.background_failed(Step::PushView),
                }
            });
        }
    }
}

/// Those that have waited longest, as many as there is room for.
fn due(waiting: &HashMap<Uid, Waiting>, now: Instant, room: usize) -> Vec<Uid> {
    if room == 0 {
        return Vec::new();
    }
    let due = waiting.iter().filter(|(_, waiting)| waiting.not_before <= now);
    let mut due: Vec<_> = due.map(|(uid, waiting)| (waiting.not_before, *uid)).collect();
    if due.len() > room {
        due.select_nth_unstable(room - 1);
        due.truncate(room);
    }
    due.into_iter().map(|(_, uid)| uid).collect()
}

/// The states as they are in the store. Where it is away the edges hear that they have moved, and what is left is to be
/// pushed again.
async fn push_states(parts: &Parts, moved: HashMap<Uid, StateVersion>) -> HashMap<Uid, StateVersion> {
    let mut left: Vec<_> = moved.into_iter().collect();
    while !left.is_empty() {
        let rest = left.split_off(left.len().min(STATES));
        let uids: Vec<_> = left.iter().map(|(uid, _)| *uid).collect();
        let Ok(views) = views::states(parts, &uids, VIEW_DEADLINE).await else {
            parts.metrics.background_failed(Step::PushView);
            left.extend(rest);
            left.iter().for_each(|(uid, version)| parts.watchers.version_moved(*uid, *version));
            break;
        };
        uids.into_iter().zip(views).for_each(|(uid, view)| parts.watchers.view_moved(uid, view));
        left = rest;
    }
    left.into_iter().collect()
}

/// Edges that begin to follow visitors, or come back, hear of what they have missed.
async fn catch_up(parts: &Parts, held: Vec<Held>) {
    for held in held.chunks(STATES) {
        let uids: Vec<_> = held.iter().map(|held| held.uid).collect();
        let Ok(views) = views::states(parts, &uids, VIEW_DEADLINE).await else {
            parts.metrics.background_failed(Step::PushView);
            continue;
        };
        for (held, view) in held.iter().zip(views) {
            let version = view.state.as_ref().and_then(|state| state.version);
            if version.is_some_and(|version| version.next_offset > held.next_offset) {
                parts.watchers.caught_up(held, view);
            }
        }
    }
}

fn decode(record: &Record) -> Option<(Uid, StateVersion)> {
    let version = wire::StateVersion::decode(&record.value[..]).ok()?;
    Some((Uid::from_slice(&record.key)?, version.into()))
}
