//! Edges that follow: who holds which visitor, and what each must hear.

use crate::posteriors::Current;
use crate::{OriginError, Parts};
use attune_domain::{StateVersion, Uid};
use attune_proto::origin::v1 as origin;
use attune_proto::{convert, state::v1 as wire};
use attune_runtime::Shutdown;
use attune_storage::Topic;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tonic::{Status, Streaming};

const ITEM_BATCH: usize = 1024;
const ITEM_WAIT: Duration = Duration::from_secs(1);
/// Visitors one edge may follow.
const MAX_FOLLOWED: usize = 1_000_000;

pub(crate) type Feed = mpsc::Sender<Result<origin::WatchResponse, Status>>;

/// Visitors told of in one message.
const USER_BATCH: usize = 128;

struct Edge {
    feed: Feed,
    follows: HashSet<Uid>,
    moved: Arc<Moved>,
}

/// What an edge has yet to hear of its visitors: of each the newest, however slow the edge is.
#[derive(Default)]
struct Moved {
    users: Mutex<HashMap<Uid, origin::WatchedUser>>,
    some: Notify,
}

impl Moved {
    fn note(&self, uid: Uid, user: origin::WatchedUser) {
        match self.users.lock().entry(uid) {
            Entry::Vacant(entry) => {
                entry.insert(user);
            }
            Entry::Occupied(mut entry) => merge(entry.get_mut(), user),
        }
        self.some.notify_one();
    }

    /// Waits for some.
    async fn take(&self) -> Vec<origin::WatchedUser> {
        loop {
            let some = self.some.notified();
            let taken: Vec<_> = {
                let mut users = self.users.lock();
                let uids: Vec<_> = users.keys().take(USER_BATCH).copied().collect();
                let taken = uids.iter().filter_map(|uid| users.remove(uid)).collect();
                if !users.is_empty() {
                    self.some.notify_one();
                }
                taken
            };
            if !taken.is_empty() {
                return taken;
            }
            some.await;
        }
    }
}

/// Both of one visitor: the newer state, and the list where only one brings one.
fn merge(old: &mut origin::WatchedUser, new: origin::WatchedUser) {
    let offset = |version: &Option<wire::StateVersion>| version.map_or(0, |version| version.next_offset);
    if offset(&new.version) > offset(&old.version) {
        old.version = new.version;
    }
    let state_of = |view: &wire::UserView| view.state.as_ref().map_or(0, |state| offset(&state.version));
    old.view = match (old.view.take(), new.view) {
        (Some(old), Some(new)) => {
            let (mut newer, older) = if state_of(&new) >= state_of(&old) { (new, old) } else { (old, new) };
            if newer.own.is_none() && newer.model_version == older.model_version {
                (newer.own, newer.own_version) = (older.own, older.own_version);
            }
            Some(newer)
        }
        (old, new) => new.or(old),
    };
}

/// An edge that has told which version of a visitor it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) uid: Uid,
    pub(crate) next_offset: u64,
    edge: u64,
}

/// The edges that are connected.
pub(crate) struct Watchers {
    edges: Mutex<HashMap<u64, Edge>>,
    next: AtomicU64,
    queue: usize,
    held: Mutex<Vec<Held>>,
    some_held: Notify,
}

impl Watchers {
    pub(crate) fn new(queue: usize) -> Self {
        Self {
            edges: Mutex::default(),
            next: AtomicU64::new(1),
            queue,
            held: Mutex::default(),
            some_held: Notify::new(),
        }
    }

    fn enter(&self) -> Entered {
        let (feed, stream) = mpsc::channel(self.queue);
        let (id, moved) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::default());
        let edge = Edge { feed: feed.clone(), follows: HashSet::new(), moved: Arc::clone(&moved) };
        self.edges.lock().insert(id, edge);
        Entered { id, stream, feed, moved }
    }

    fn leave(&self, id: u64) {
        self.edges.lock().remove(&id);
    }

    fn follow(&self, id: u64, request: &origin::WatchRequest) {
        let mut edges = self.edges.lock();
        let Some(edge) = edges.get_mut(&id) else { return };
        for uid in request.drop.iter().filter_map(|u| Uid::from_slice(u)) {
            edge.follows.remove(&uid);
        }
        let mut held = self.held.lock();
        let versions = request.held.iter().map(Some).chain(std::iter::repeat(None));
        for (uid, version) in request.follow.iter().zip(versions) {
            let Some(uid) = Uid::from_slice(uid).filter(|_| edge.follows.len() < MAX_FOLLOWED) else { continue };
            edge.follows.insert(uid);
            held.extend(version.map(|&next_offset| Held { uid, next_offset, edge: id }));
        }
        self.some_held.notify_one();
    }

    /// What edges have told since of the versions they have; waits for some.
    pub(crate) async fn held(&self) -> Vec<Held> {
        loop {
            let some = self.some_held.notified();
            let held = std::mem::take(&mut *self.held.lock());
            if !held.is_empty() {
                return held;
            }
            some.await;
        }
    }

    pub(crate) fn is_followed(&self, uid: &Uid) -> bool {
        self.edges.lock().values().any(|edge| edge.follows.contains(uid))
    }

    /// Sends to the edges that `wants` picks. An edge whose queue is full is cut off: it reconnects and catches up.
    fn send(&self, message: &origin::WatchResponse, wants: impl Fn(&HashSet<Uid>) -> bool) {
        self.edges.lock().retain(|_, edge| {
            !wants(&edge.follows)
                || !matches!(edge.feed.try_send(Ok(message.clone())), Err(mpsc::error::TrySendError::Full(_)))
        });
    }

    pub(crate) fn version_moved(&self, uid: Uid, version: StateVersion) {
        self.tell(uid, None, Some(version.into()));
    }

    /// A view without a list moves the state alone.
    pub(crate) fn view_moved(&self, uid: Uid, view: wire::UserView) {
        let version = view.state.as_ref().and_then(|state| state.version);
        self.tell(uid, Some(view), version);
    }

    fn tell(&self, uid: Uid, view: Option<wire::UserView>, version: Option<wire::StateVersion>) {
        let user = origin::WatchedUser { uid: Bytes::copy_from_slice(&uid.0), view, version };
        for edge in self.edges.lock().values().filter(|edge| edge.follows.contains(&uid)) {
            edge.moved.note(uid, user.clone());
        }
    }

    /// Tells one edge what it missed.
    pub(crate) fn caught_up(&self, held: &Held, view: wire::UserView) {
        let version = view.state.as_ref().and_then(|state| state.version);
        let user = origin::WatchedUser { uid: Bytes::copy_from_slice(&held.uid.0), view: Some(view), version };
        if let Some(edge) = self.edges.lock().get(&held.edge) {
            edge.moved.note(held.uid, user);
        }
    }

    pub(crate) fn erased(&self, uid: Uid) {
        let message = origin::WatchResponse { erased: vec![Bytes::copy_from_slice(&uid.0)], ..Default::default() };
        self.send(&message, |_| true);
        self.edges.lock().values_mut().for_each(|edge| {
            edge.follows.remove(&uid);
            edge.moved.users.lock().remove(&uid);
        });
    }

    pub(crate) fn posteriors_moved(&self, current: &Current) {
        self.send(&posteriors_message(current), |_| true);
    }
}

struct Entered {
    id: u64,
    stream: mpsc::Receiver<Result<origin::WatchResponse, Status>>,
    feed: Feed,
    moved: Arc<Moved>,
}

fn posteriors_message(current: &Current) -> origin::WatchResponse {
    origin::WatchResponse {
        posteriors: Some((&current.snapshot).into()),
        posteriors_hash: Bytes::copy_from_slice(&current.hash.0),
        ..Default::default()
    }
}

/// Tells every edge, now and then, that the origin is there and how far the catalogue has come.
pub(crate) async fn heartbeat(parts: Arc<Parts>, shutdown: Shutdown) {
    let every = parts.config.watch.heartbeat.get();
    loop {
        let message = greeting(&parts);
        parts.watchers.send(&message, |_| true);
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

fn greeting(parts: &Parts) -> origin::WatchResponse {
    let serving = parts.serving.load();
    origin::WatchResponse {
        model_version: serving.bundle.version().to_string(),
        items_end: serving.catalogue.next_offset(),
        sent_at: (parts.clock)(),
        ..Default::default()
    }
}

/// Serves one edge: a greeting, the posteriors, every item update from where it stands, then whatever comes.
pub(crate) async fn serve(
    parts: Arc<Parts>,
    mut requests: Streaming<origin::WatchRequest>,
) -> Result<mpsc::Receiver<Result<origin::WatchResponse, Status>>, OriginError> {
    let first = requests.message().await.ok().flatten().ok_or(convert::WireError::new("watch", "is empty"))?;
    let Entered { id, stream, feed, moved } = parts.watchers.enter();
    parts.watchers.follow(id, &first);
    tokio::spawn(async move {
        let current = parts.posteriors.load();
        let greeted =
            feed.send(Ok(greeting(&parts))).await.is_ok() && feed.send(Ok(posteriors_message(&current))).await.is_ok();
        if greeted {
            let items = follow_items(&parts, &feed, first.items_from);
            let follows = async {
                while let Ok(Some(request)) = requests.message().await {
                    parts.watchers.follow(id, &request);
                }
            };
            let users = async {
                loop {
                    let message = origin::WatchResponse { users: moved.take().await, ..Default::default() };
                    if feed.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = items => {}
                () = follows => {}
                () = users => {}
                () = feed.closed() => {}
            }
        }
        parts.watchers.leave(id);
    });
    Ok(stream)
}

async fn follow_items(parts: &Parts, feed: &Feed, from: u64) {
    let mut next = from;
    loop {
        let Ok(records) = parts.event_log.read(Topic::ItemUpdates, next, ITEM_BATCH, ITEM_WAIT).await else {
            return;
        };
        let items: Vec<_> = records
            .iter()
            .filter_map(|(offset, record)| {
                let update = wire::ItemUpdate::decode(&record.value[..]).ok()?;
                Some(origin::WatchedItem { offset: *offset, update: Some(update) })
            })
            .collect();
        let Some((last, _)) = records.last() else { continue };
        next = last + 1;
        let message = origin::WatchResponse { items, items_end: next, ..Default::default() };
        if feed.send(Ok(message)).await.is_err() {
            return;
        }
    }
}
