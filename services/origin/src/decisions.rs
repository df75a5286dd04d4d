//! The decision log's front: asynchronous and bounded; what it cannot keep it counts.

use crate::recent::{RecentDecisions, StoredObjects};
use crate::slate::{Facts, Slate};
use crate::telemetry::{Lost, Step};
use crate::{OriginConfig, OriginMetrics, Parts};
use attune_domain::{DecidedSlot, ItemIx, RequestId};
use attune_runtime::Shutdown;
use attune_storage::{Decision, DecisionEntry, DecisionLog, ObjectHash, RecordHead, StorageError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const RETRY: Duration = Duration::from_millis(100);
const RETAIN_EVERY: Duration = Duration::from_secs(3600);

struct Pending {
    entries: Vec<DecisionEntry>,
    objects: Vec<(ObjectHash, Bytes)>,
}

pub(crate) struct Decisions {
    log: Arc<dyn DecisionLog>,
    queue: mpsc::UnboundedSender<Pending>,
    /// Records in the queue, of which there may be so many.
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
    recent: Mutex<RecentDecisions>,
    stored: Arc<Mutex<StoredObjects>>,
    metrics: OriginMetrics,
}

impl Decisions {
    pub(crate) fn start(
        log: Arc<dyn DecisionLog>,
        config: &OriginConfig,
        metrics: OriginMetrics,
        tasks: &mut JoinSet<()>,
        shutdown: &Shutdown,
    ) -> Self {
        let (queue, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let stored = Arc::new(Mutex::default());
        let writing = Writing {
            log: Arc::clone(&log),
            waiting: Arc::clone(&waiting),
            stored: Arc::clone(&stored),
            metrics: metrics.clone(),
        };
        tasks.spawn(writing.run(receiver, config.decisions.every.get(), shutdown.clone()));
        Self { log, queue, waiting, most_waiting: config.decisions.queue, recent: Mutex::default(), stored, metrics }
    }

    /// Hands a record to the writer, with the objects it names; never waits.
    pub(crate) fn record(&self, entry: DecisionEntry, objects: Vec<(ObjectHash, Bytes)>) {
        let _ours = self.recent.lock().insert(&entry.record);
        self.enqueue(Pending { entries: vec![entry], objects });
    }

    /// Records of an edge, as they came.
    pub(crate) fn record_all(&self, records: Vec<Bytes>, objects: Vec<(ObjectHash, Bytes)>) {
        let mut entries = Vec::with_capacity(records.len());
        let received = records.len();
        {
            let mut recent = self.recent.lock();
            for record in records {
                let read = recent.insert(&record);
                entries.extend(read.map(|(request_id, uid)| DecisionEntry { request_id, uid, record }));
            }
        }
        let malformed = received - entries.len();
        if malformed > 0 {
            self.metrics.decisions_dropped(Lost::Malformed, malformed as u64);
        }
        self.enqueue(Pending { entries, objects });
    }

    fn enqueue(&self, pending: Pending) {
        let count = pending.entries.len();
        let room = |waiting| (waiting + count <= self.most_waiting).then_some(waiting + count);
        if self.waiting.fetch_update(Relaxed, Relaxed, room).is_err() || self.queue.send(pending).is_err() {
            self.metrics.decisions_dropped(Lost::QueueFull, count as u64);
        }
    }

    /// What that decision says of the item; none where the item was not in it.
    pub(crate) async fn slot(&self, request_id: RequestId, item: ItemIx) -> Option<DecidedSlot> {
        let known = self.recent.lock().slate(request_id).map(|slate| slate.decided(item));
        if let Some(known) = known {
            return known;
        }
        let Ok(Decision::Found(record)) = self.log.get(request_id).await else { return None };
        let mut items = Vec::new();
        let head = RecordHead::read(&record, Some(&mut items))?;
        Slate { items: &items, scores: head.scores, slots: head.slots, facts: Facts::of(&head) }.decided(item)
    }

    /// The record, waiting a little for one that is still on its way to the log.
    pub(crate) async fn get(&self, request_id: RequestId) -> Result<Decision, StorageError> {
        for _ in 0..20 {
            let found = self.log.get(request_id).await?;
            if found != Decision::Unknown || self.recent.lock().slate(request_id).is_none() {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.log.get(request_id).await
    }

    /// Forgets what is known of recent decisions and objects: which of them were a visitor's is only in the log.
    pub(crate) fn forget_recent(&self) {
        *self.recent.lock() = RecentDecisions::default();
        *self.stored.lock() = StoredObjects::default();
    }

    pub(crate) fn log(&self) -> &Arc<dyn DecisionLog> {
        &self.log
    }
}

struct Writing {
    log: Arc<dyn DecisionLog>,
    waiting: Arc<AtomicUsize>,
    stored: Arc<Mutex<StoredObjects>>,
    metrics: OriginMetrics,
}

impl Writing {
    /// Writes what waits until told to stop, then what is left.
    async fn run(self, mut queue: mpsc::UnboundedReceiver<Pending>, every: Duration, shutdown: Shutdown) {
        let mut taken = Vec::new();
        loop {
            let count = tokio::select! {
                biased;
                count = queue.recv_many(&mut taken, usize::MAX) => count,
                () = shutdown.wait() => {
                    queue.close();
                    queue.recv_many(&mut taken, usize::MAX).await
                }
            };
            if count == 0 {
                return;
            }
            self.write(taken.drain(..)).await;
            tokio::select! {
                () = shutdown.wait() => {}
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    async fn write(&self, taken: impl Iterator<Item = Pending>) {
        let mut entries = Vec::new();
        let mut objects = Vec::new();
        let mut in_batch = HashSet::new();
        {
            let stored = self.stored.lock();
            for pending in taken {
                entries.extend(pending.entries);
                let fresh = |(hash, _): &(ObjectHash, Bytes)| !stored.contains(hash) && in_batch.insert(*hash);
                objects.extend(pending.objects.into_iter().filter(fresh));
            }
        }
        self.waiting.fetch_sub(entries.len(), Relaxed);
        let written = entries.len() as u64;
        let mut result = self.log.append(entries.clone(), objects.clone()).await;
        for _ in 0..20 {
            if !result.as_ref().is_err_and(StorageError::is_retryable) {
                break;
            }
            tokio::time::sleep(RETRY).await;
            result = self.log.append(entries.clone(), objects.clone()).await;
        }
        match result {
            Ok(()) => {
                self.stored.lock().extend(in_batch);
                self.metrics.decisions_stored(written);
            }
            Err(_) => self.metrics.decisions_dropped(Lost::Store, written),
        }
    }
}

/// Drops what is older than the retention, now and then.
pub(crate) async fn retain(parts: Arc<Parts>, shutdown: Shutdown) {
    let keep = parts.config.decisions.retention.get().as_millis() as i64;
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(RETAIN_EVERY) => {}
        }
        let before = (parts.clock)() - keep;
        if parts.decisions.log.retain_from(before).await.is_err() {
            parts.metrics.background_failed(Step::Retain);
        }
        // An object that went must be stored when it comes again.
        *parts.decisions.stored.lock() = StoredObjects::default();
        let day = ((parts.clock)() - 31 * 86_400_000).div_euclid(86_400_000);
        if parts.event_log.forget_dedup_before(day).await.is_err() {
            parts.metrics.background_failed(Step::ForgetDedup);
        }
    }
}
