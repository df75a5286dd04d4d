//! The line to the origin: catalogue, posteriors and version pushes, followed for as long as the edge lives.

use crate::object::Object;
use crate::{HeldPosteriors, Parts, users::UserEntry};
use attune_decision::Posteriors;
use attune_domain::{StateVersion, Uid};
use attune_proto::{convert, origin::v1 as origin};
use attune_rpc::Scope;
use attune_runtime::Shutdown;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const RECONNECT: Duration = Duration::from_millis(100);
/// Silence after which the line counts as broken; the origin speaks twice a second.
const SILENCE: Duration = Duration::from_secs(3);
const TELL_EVERY: Duration = Duration::from_millis(20);
const FOLLOW_BATCH: usize = 10_000;

/// Visitors the origin must be told about.
#[derive(Clone, Default)]
pub(crate) struct Followed(Arc<Mutex<Changes>>);

#[derive(Default)]
struct Changes {
    follow: Vec<(Uid, StateVersion)>,
    drop: Vec<Bytes>,
}

impl Followed {
    /// From the version on that this edge has.
    pub(crate) fn follow(&self, uid: Uid, version: StateVersion) {
        self.0.lock().follow.push((uid, version));
    }

    pub(crate) fn drop_later(&self, uid: Uid) {
        self.0.lock().drop.push(Bytes::copy_from_slice(&uid.0));
    }

    fn take(&self) -> Changes {
        std::mem::take(&mut *self.0.lock())
    }
}

/// Follows the origin until told to stop; comes back whenever the line breaks.
pub(crate) async fn follow(parts: Arc<Parts>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = follow_once(&parts) => {}
        }
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(RECONNECT) => {}
        }
    }
}

async fn follow_once(parts: &Parts) {
    let (tell, told) = mpsc::channel(4);
    // Changes from before are covered by what is held now.
    drop(parts.followed.take());
    let mut follow = parts.users.all();
    let rest = follow.split_off(follow.len().min(FOLLOW_BATCH));
    let first = origin::WatchRequest {
        items_from: parts.serving.load().catalogue.next_offset(),
        edge: parts.pop.as_str().to_owned(),
        ..following(&follow)
    };
    if tell.send(first).await.is_err() {
        return;
    }
    let request = attune_rpc::request(ReceiverStream::new(told), &Scope::detached(), Duration::MAX);
    let mut origin = parts.origin.clone();
    let open = origin.watch(request);
    let Ok(Ok(stream)) = tokio::time::timeout(SILENCE, open).await else { return };
    let mut stream = stream.into_inner();
    let hear = async {
        while let Ok(Ok(Some(message))) = tokio::time::timeout(SILENCE, stream.message()).await {
            take_in(parts, message);
        }
    };
    let speak = async {
        for batch in rest.chunks(FOLLOW_BATCH) {
            if tell.send(following(batch)).await.is_err() {
                return;
            }
        }
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            let Changes { follow, drop } = parts.followed.take();
            if follow.is_empty() && drop.is_empty() {
                continue;
            }
            let request = origin::WatchRequest { drop, ..following(&follow) };
            if tell.send(request).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = hear => {}
        () = speak => {}
    }
}

fn following(visitors: &[(Uid, StateVersion)]) -> origin::WatchRequest {
    origin::WatchRequest {
        follow: visitors.iter().map(|(uid, _)| Bytes::copy_from_slice(&uid.0)).collect(),
        held: visitors.iter().map(|(_, version)| version.next_offset).collect(),
        ..Default::default()
    }
}

fn take_in(parts: &Parts, message: origin::WatchResponse) {
    let now = (parts.clock)();
    parts.origin_heard.store(now, Ordering::Relaxed);
    if !message.items.is_empty() {
        let updates: Vec<_> = message
            .items
            .iter()
            .filter_map(|i| Some((i.offset, convert::item_update(i.update.as_ref()?).ok()?)))
            .collect();
        // A gap means that a message was lost with its connection: the next connection starts where this edge stands.
        if let Ok(next) = parts.serving.load().with_updates(updates) {
            parts.nobody.store(Arc::new(UserEntry::empty(&next)));
            parts.serving.store(Arc::new(next));
        }
    }
    if let Some(snapshot) = message.posteriors.as_ref().and_then(|p| convert::posterior_snapshot(p).ok()) {
        let object = Object::new(Posteriors::encode(&snapshot));
        let posteriors = Posteriors::new(&snapshot, *object.hash());
        parts.posteriors.store(Arc::new(HeldPosteriors { posteriors, object }));
    }
    let serving = parts.serving.load();
    for user in &message.users {
        let Some(uid) = Uid::from_slice(&user.uid) else { continue };
        match (&user.view, user.version) {
            // One that was dropped meanwhile stays away.
            (Some(_), _) if !parts.users.holds(&uid) => {}
            (Some(view), _) => {
                // A malformed view changes nothing; the state's age will show.
                let _malformed = parts.users.put_view(&serving, uid, view, now).is_err();
            }
            (None, Some(version)) => parts.users.version_moved(uid, version.into(), now),
            (None, None) => {}
        }
    }
    for uid in message.erased.iter().filter_map(|uid| Uid::from_slice(uid)) {
        parts.users.forget(&uid);
    }
    if message.sent_at != 0 {
        parts.metrics.cache_size(parts.sets.bytes(), parts.users.count());
    }
}
