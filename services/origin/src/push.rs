//! Version pushes: when a visitor's state moves, every edge that holds the visitor gets the state, and a new list when there
//! is time for it; until then the edge moves the old list with the state.
//!
//! Following the topic, pushing states and building lists go on beside each other, so that neither of the latter lets the
//! first fall behind. Of a visitor only the newest waits. States go out at a rate, to those first who were told least
//! lately: who seldom moves is told at once, however many others move all the time.

use crate::telemetry::Step;
use crate::watch::Held;
use crate::{Parts, views};
use attune_domain::{StateVersion, Uid};
use attune_proto::state::v1 as wire;
use attune_rpc::{Deadline, Scope};
use attune_runtime::Shutdown;
use attune_storage::{Record, Topic};
use attune_telemetry::Kind;
use parking_lot::Mutex;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

const BATCH: usize = 4096;
const WAIT: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(200);
/// Between two pushes of states.
const STATES_EVERY: Duration = Duration::from_millis(20);
/// States read at once when edges catch up.
const STATES: usize = 512;
/// After this nobody remembers when a visitor's state was pushed, or a list built.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Visitors waiting for a new list; beyond it they keep the old one, which their edge moves with the dot product.
const MAX_WAITING: usize = 20_000;
const VIEW_DEADLINE: Duration = Duration::from_millis(500);

/// Visitors whose edges have yet to be told.
#[derive(Default)]
struct Moved {
    versions: Mutex<HashMap<Uid, StateVersion>>,
    some: Notify,
}

impl Moved {
    fn note(&self, uid: Uid, version: StateVersion) {
        let mut versions = self.versions.lock();
        let newest = versions.entry(uid).or_insert(version);
        *newest = version.max(*newest);
        self.some.notify_one();
    }

    fn has_room_for(&self, uid: &Uid) -> bool {
        let versions = self.versions.lock();
        versions.len() < MAX_WAITING || versions.contains_key(uid)
    }

    /// Waits for some.
    async fn wait(&self) {
        loop {
            let some = self.some.notified();
            if !self.versions.lock().is_empty() {
                return;
            }
            some.await;
        }
    }

    /// Takes as many as there is room for, the least lately served first.
    fn take(&self, served: &Served, room: usize) -> Vec<(Uid, StateVersion)> {
        let mut versions = self.versions.lock();
        let mut due: Vec<_> = versions.keys().filter_map(|uid| Some((served.place(uid)?, *uid))).collect();
        if due.len() > room {
            due.select_nth_unstable(room);
            due.truncate(room);
        }
        due.into_iter().filter_map(|(_, uid)| versions.remove_entry(&uid)).collect()
    }
}

/// When visitors were served last.
struct Served {
    at: HashMap<Uid, Instant>,
    /// At least so long between two times.
    every: Duration,
    tidied: Instant,
}

impl Served {
    fn new(every: Duration) -> Self {
        Self { at: HashMap::new(), every, tidied: Instant::now() }
    }

    /// In the order of turns; None where it is too early.
    fn place(&self, uid: &Uid) -> Option<Option<Instant>> {
        let at = self.at.get(uid).copied();
        at.is_none_or(|at| at.elapsed() >= self.every).then_some(at)
    }

    fn note(&mut self, uid: Uid) {
        let now = Instant::now();
        self.at.insert(uid, now);
        if now - self.tidied > REMEMBERED {
            self.at.retain(|_, at| now - *at < REMEMBERED.max(self.every));
            self.tidied = now;
        }
    }
}

/// Follows the `state-versions` topic until told to stop.
pub(crate) async fn run(parts: Arc<Parts>, shutdown: Shutdown) {
    let (states, lists) = (Arc::<Moved>::default(), Arc::<Moved>::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(Arc::clone(&parts), Arc::clone(&states), Arc::clone(&lists)));
    tasks.spawn(push_states(Arc::clone(&parts), states));
    tasks.spawn(build_lists(Arc::clone(&parts), lists));
    tasks.spawn(catch_up(parts));
    // They end with the set.
    shutdown.wait().await;
}

async fn follow(parts: Arc<Parts>, states: Arc<Moved>, lists: Arc<Moved>) {
    let mut next = loop {
        match parts.event_log.bounds(Topic::StateVersions).await {
            Ok(bounds) => break bounds.end,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    };
    loop {
        let Ok(records) = parts.event_log.read(Topic::StateVersions, next, BATCH, WAIT).await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        for (offset, record) in &records {
            next = offset + 1;
            for (uid, version) in decode(record).filter(|(uid, _)| parts.watchers.is_followed(uid)) {
                states.note(uid, version);
                if lists.has_room_for(&uid) {
                    lists.note(uid, version);
                } else {
                    parts.metrics.push_skipped();
                }
            }
        }
    }
}

/// Tells the edges the states as they are in the store. Where it is away they hear that the states have moved, and what
/// is left is to be pushed again.
async fn push_states(parts: Arc<Parts>, moved: Arc<Moved>) {
    let room = (parts.config.watch.states_per_second as f64 * STATES_EVERY.as_secs_f64()).ceil() as usize;
    let mut served = Served::new(Duration::ZERO);
    loop {
        moved.wait().await;
        let again = Instant::now() + STATES_EVERY;
        let taken = moved.take(&served, room);
        let uids: Vec<_> = taken.iter().map(|(uid, _)| *uid).collect();
        if let Ok(views) = views::states(&parts, &uids, VIEW_DEADLINE).await {
            for (uid, view) in uids.into_iter().zip(views) {
                parts.watchers.view_moved(uid, view);
                served.note(uid);
            }
            tokio::time::sleep_until(again.into()).await;
        } else {
            parts.metrics.background_failed(Step::PushView);
            for (uid, version) in taken {
                parts.watchers.version_moved(uid, version);
                moved.note(uid, version);
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn build_lists(parts: Arc<Parts>, moved: Arc<Moved>) {
    let mut served = Served::new(parts.config.watch.rebuild_every.get());
    let mut building = JoinSet::new();
    loop {
        let free = parts.config.watch.rebuilds.saturating_sub(building.len());
        let taken = if free == 0 { Vec::new() } else { moved.take(&served, free) };
        let is_idle = taken.is_empty();
        for (uid, version) in taken {
            served.note(uid);
            building.spawn(build_list(Arc::clone(&parts), uid, version));
        }
        if building.len() >= parts.config.watch.rebuilds {
            building.join_next().await;
        } else if is_idle {
            moved.wait().await;
            // Those who wait may have been served too lately.
            tokio::time::sleep(STATES_EVERY).await;
        }
        while building.try_join_next().is_some() {}
    }
}

async fn build_list(parts: Arc<Parts>, uid: Uid, version: StateVersion) {
    let id = parts.telemetry.new_id();
    let span = parts.telemetry.root("api.push_view", Kind::Internal, None, id).guard();
    let scope = Scope::new(span.clone(), Deadline::after(VIEW_DEADLINE));
    match views::build(&parts, &scope, uid, version.next_offset, (parts.clock)()).await {
        Ok(view) => parts.watchers.view_moved(uid, view),
        Err(_) => parts.metrics.background_failed(Step::PushView),
    }
}

/// Edges that begin to follow visitors, or come back, hear of what they have missed.
async fn catch_up(parts: Arc<Parts>) {
    loop {
        for held in parts.watchers.held().await.chunks(STATES) {
            catch_up_with(&parts, held).await;
        }
    }
}

async fn catch_up_with(parts: &Parts, held: &[Held]) {
    let uids: Vec<_> = held.iter().map(|held| held.uid).collect();
    let Ok(views) = views::states(parts, &uids, VIEW_DEADLINE).await else {
        parts.metrics.background_failed(Step::PushView);
        return;
    };
    for (held, view) in held.iter().zip(views) {
        let version = view.state.as_ref().and_then(|state| state.version);
        if version.is_some_and(|version| version.next_offset > held.next_offset) {
            parts.watchers.caught_up(held, view);
        }
    }
}

/// Visitors that the record tells of; what is none of ours is passed over.
fn decode(record: &Record) -> impl Iterator<Item = (Uid, StateVersion)> {
    let record = wire::StateVersions::decode(&record.value[..]).unwrap_or_default();
    record.visitors.into_iter().filter_map(|moved| Some((Uid::from_slice(&moved.uid)?, moved.version?.into())))
}
