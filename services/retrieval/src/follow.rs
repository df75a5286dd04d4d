//! Keeping the view and the trending list current, in the background.

use crate::index::IndexConfig;
use crate::retrieve::Retriever;
use crate::telemetry::Operation;
use crate::trending::Trending;
use crate::view::View;
use attune_proto::convert;
use attune_proto::state::v1::{UserRecord, user_record::Record as Kind};
use attune_storage::{Bounds, EventLog, Follower, Record, Topic};
use prost::Message as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How often a view looks for a change nobody announced, such as another model.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(500);
const EVENTS_PER_READ: usize = 2_048;
/// The list is made anew this often at most, which sorts everything that is counted.
const LIST_EVERY: Duration = Duration::from_millis(200);
const WAIT: Duration = Duration::from_secs(1);
const TRENDING_ITEMS: usize = 512;

/// Derives a new view whenever the serving state has changed, and merges the index when it is worth while.
pub async fn keep_views(
    retriever: Arc<Retriever>,
    config: IndexConfig,
    snapshots: Option<PathBuf>,
    changed: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let work = tokio::task::spawn_blocking({
            let (retriever, config, snapshots) = (Arc::clone(&retriever), config.clone(), snapshots.clone());
            move || refresh(&retriever, &config, snapshots)
        });
        if work.await.is_err() {
            retriever.metrics.index_follows(false);
            retriever.metrics.follow_failed();
        }
        tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            () = changed.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

fn refresh(retriever: &Arc<Retriever>, config: &IndexConfig, snapshots: Option<PathBuf>) {
    let serving = retriever.serving().load_full();
    let before = retriever.view();
    if !Arc::ptr_eq(&serving, &before.serving) {
        let begun = Instant::now();
        match View::derive(serving, Some(&before), config, snapshots.as_deref()) {
            Ok(view) => {
                retriever.set_view(view);
                retriever.metrics.operated(Operation::Upsert, begun.elapsed());
            }
            Err(_) => {
                retriever.metrics.index_follows(false);
                retriever.metrics.follow_failed();
            }
        }
    }
    let view = retriever.view();
    if view.index.needs_merge() && !view.index.is_merging() {
        // Takes seconds; views go on meanwhile. The index runs one merge at a time.
        let failed = retriever;
        let retriever = Arc::clone(retriever);
        let merge = move || {
            if view.index.merge() {
                retriever.metrics.merged();
                let now = view.index.pin();
                retriever.metrics.index_size(now.len(), now.in_graphs());
                if snapshots.is_some_and(|folder| view.save_index(&folder).is_err()) {
                    retriever.metrics.follow_failed();
                }
            }
        };
        if std::thread::Builder::new().name("index-merge".into()).spawn(merge).is_err() {
            failed.metrics.follow_failed();
        }
    }
}

/// Counts live events into the trending list. While the log is away the last list stays.
pub async fn keep_trending(
    retriever: Arc<Retriever>,
    log: Arc<dyn EventLog>,
    mut trending: Trending,
    replay: u64,
    mut stop: watch::Receiver<bool>,
) {
    let mut follower = None;
    let (mut listed, mut is_new) = (Instant::now(), false);
    loop {
        if is_new && listed.elapsed() >= LIST_EVERY {
            retriever.set_trending(trending.top(TRENDING_ITEMS));
            (listed, is_new) = (Instant::now(), false);
        }
        let wait = if is_new { LIST_EVERY.saturating_sub(listed.elapsed()) } else { WAIT };
        let read = async {
            let follower = match &mut follower {
                Some(follower) => follower,
                none => {
                    let from = |bounds: Bounds| bounds.start.max(bounds.end.saturating_sub(replay));
                    none.insert(Follower::start(Arc::clone(&log), Topic::UserEvents, from).await?)
                }
            };
            follower.read(EVENTS_PER_READ, wait).await
        };
        let records = tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            records = read => records,
        };
        match records {
            Ok(records) => {
                observe(&mut trending, &records);
                is_new |= !records.is_empty();
            }
            Err(_) => {
                retriever.metrics.follow_failed();
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// A record that is no event, or a malformed one, is another consumer's business.
fn observe(trending: &mut Trending, records: &[(u64, Record)]) {
    for (_, record) in records {
        let Ok(UserRecord { uid, record: Some(Kind::Event(event)), schema }) = UserRecord::decode(&record.value[..])
        else {
            continue;
        };
        if let Ok(event) =
            convert::schema(schema).and_then(|()| convert::uid(&uid)).and_then(|uid| convert::event(uid, &event))
        {
            trending.observe(&event);
        }
    }
}
