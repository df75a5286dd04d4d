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
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

const ITEM_BATCH: usize = 1024;
const ITEM_WAIT: Duration = Duration::from_secs(1);
/// Visitors one edge may follow.
const MAX_FOLLOWED: usize = 1_000_000;

pub(crate) type Feed = mpsc::Sender<Result<origin::WatchResponse, Status>>;

struct Edge {
    feed: Feed,
    follows: HashSet<Uid>,
}

/// The edges that are connected.
pub(crate) struct Watchers {
    edges: Mutex<HashMap<u64, Edge>>,
    next: AtomicU64,
    queue: usize,
}

impl Watchers {
    pub(crate) fn new(queue: usize) -> Self {
        Self { edges: Mutex::default(), next: AtomicU64::new(1), queue }
    }

    fn enter(&self) -> (u64, mpsc::Receiver<Result<origin::WatchResponse, Status>>, Feed) {
        let (feed, stream) = mpsc::channel(self.queue);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.edges.lock().insert(id, Edge { feed: feed.clone(), follows: HashSet::new() });
        (id, stream, feed)
    }

    fn leave(&self, id: u64) {
        self.edges.lock().remove(&id);
    }

    fn follow(&self, id: u64, follow: &[Bytes], drop: &[Bytes]) {
        let mut edges = self.edges.lock();
        let Some(edge) = edges.get_mut(&id) else { return };
        for uid in drop.iter().filter_map(|u| Uid::from_slice(u)) {
            edge.follows.remove(&uid);
        }
        for uid in follow.iter().filter_map(|u| Uid::from_slice(u)) {
            if edge.follows.len() < MAX_FOLLOWED {
                edge.follows.insert(uid);
            }
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
        let user =
            origin::WatchedUser { uid: Bytes::copy_from_slice(&uid.0), view: None, version: Some(version.into()) };
        let message = origin::WatchResponse { users: vec![user], ..Default::default() };
        self.send(&message, |follows| follows.contains(&uid));
    }

    pub(crate) fn view_rebuilt(&self, uid: Uid, view: wire::UserView) {
        let version = view.state.as_ref().and_then(|s| s.version);
        let user = origin::WatchedUser { uid: Bytes::copy_from_slice(&uid.0), view: Some(view), version };
        let message = origin::WatchResponse { users: vec![user], ..Default::default() };
        self.send(&message, |follows| follows.contains(&uid));
    }

    pub(crate) fn erased(&self, uid: Uid) {
        let message = origin::WatchResponse { erased: vec![Bytes::copy_from_slice(&uid.0)], ..Default::default() };
        self.send(&message, |_| true);
        self.edges.lock().values_mut().for_each(|edge| {
            edge.follows.remove(&uid);
        });
    }

    pub(crate) fn posteriors_moved(&self, current: &Current) {
        self.send(&posteriors_message(current), |_| true);
    }
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
    let (id, stream, feed) = parts.watchers.enter();
    parts.watchers.follow(id, &first.follow, &first.drop);
    tokio::spawn(async move {
        let current = parts.posteriors.load();
        let greeted =
            feed.send(Ok(greeting(&parts))).await.is_ok() && feed.send(Ok(posteriors_message(&current))).await.is_ok();
        if greeted {
            let items = follow_items(&parts, &feed, first.items_from);
            let follows = async {
                while let Ok(Some(request)) = requests.message().await {
                    parts.watchers.follow(id, &request.follow, &request.drop);
                }
            };
            tokio::select! {
                () = items => {}
                () = follows => {}
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
