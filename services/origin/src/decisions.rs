//! The decision log's front: asynchronous and bounded; what it cannot keep it counts.

use crate::{OriginConfig, OriginMetrics, Parts};
use attune_decision::decode_record;
use attune_domain::{ItemIx, RequestId};
use attune_runtime::Shutdown;
use attune_storage::{Decision, DecisionEntry, DecisionLog, ObjectHash, StorageError};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Recent decisions whose items are known without a look into the log.
const RECENT: u64 = 200_000;
/// Objects known to be stored.
const STORED_OBJECTS: u64 = 500_000;
const RETRY: Duration = Duration::from_millis(100);
const RETAIN_EVERY: Duration = Duration::from_secs(3600);

struct Pending {
    entries: Vec<DecisionEntry>,
    objects: Vec<(ObjectHash, Bytes)>,
}

pub(crate) struct Decisions {
    log: Arc<dyn DecisionLog>,
    queue: mpsc::Sender<Pending>,
    recent: moka::sync::Cache<RequestId, Arc<[u32]>>,
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
        let (queue, waiting) = mpsc::channel(config.decisions.queue);
        tasks.spawn(write(Arc::clone(&log), waiting, config.decisions.batch, metrics.clone(), shutdown.clone()));
        let recent =
            moka::sync::Cache::builder().max_capacity(RECENT).eviction_policy(moka::policy::EvictionPolicy::lru()).build();
        Self { log, queue, recent, metrics }
    }

    /// Hands a record to the writer, with the objects it names; never waits.
    pub(crate) fn record(&self, entry: DecisionEntry, objects: Vec<(ObjectHash, Bytes)>, items: &[u32]) {
        self.recent.insert(entry.request_id, items.into());
        self.enqueue(Pending { entries: vec![entry], objects });
    }

    /// Records of an edge, as they came.
    pub(crate) fn record_all(&self, records: Vec<Bytes>, objects: Vec<(ObjectHash, Bytes)>) {
        let mut entries = Vec::with_capacity(records.len());
        for record in records {
            let Some(decoded) = decode_record(record.clone()) else {
                self.metrics.decisions_dropped("malformed", 1);
                continue;
            };
            let (Some(request_id), Some(uid)) = (
                RequestId::from_slice(&decoded.request_id),
                attune_domain::Uid::from_slice(&decoded.uid),
            ) else {
                self.metrics.decisions_dropped("malformed", 1);
                continue;
            };
            self.recent.insert(request_id, decoded.items.into());
            entries.push(DecisionEntry { request_id, uid, record });
        }
        self.enqueue(Pending { entries, objects });
    }

    fn enqueue(&self, pending: Pending) {
        let count = pending.entries.len() as u64;
        if self.queue.try_send(pending).is_err() {
            self.metrics.decisions_dropped("queue_full", count);
        }
    }

    /// Whether the item was in that decision.
    pub(crate) async fn holds(&self, request_id: RequestId, item: ItemIx) -> bool {
        if let Some(items) = self.recent.get(&request_id) {
            return items.contains(&item.0);
        }
        let Ok(Decision::Found(record)) = self.log.get(request_id).await else { return false };
        decode_record(record).is_some_and(|record| record.items.contains(&item.0))
    }

    /// The record, waiting a little for one that is still on its way to the log.
    pub(crate) async fn get(&self, request_id: RequestId) -> Result<Decision, StorageError> {
        for _ in 0..20 {
            let found = self.log.get(request_id).await?;
            if found != Decision::Unknown || !self.recent.contains_key(&request_id) {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.log.get(request_id).await
    }

    /// Forgets what is known of recent decisions: which of them were a visitor's is only in the log.
    pub(crate) fn forget_recent(&self) {
        self.recent.invalidate_all();
    }

    pub(crate) fn log(&self) -> &Arc<dyn DecisionLog> {
        &self.log
    }
}

async fn write(
    log: Arc<dyn DecisionLog>,
    mut waiting: mpsc::Receiver<Pending>,
    batch: usize,
    metrics: OriginMetrics,
    shutdown: Shutdown,
) {
    let stored: moka::sync::Cache<ObjectHash, ()> = moka::sync::Cache::new(STORED_OBJECTS);
    let mut taken = Vec::new();
    loop {
        taken.clear();
        let count = tokio::select! {
            biased;
            count = waiting.recv_many(&mut taken, batch) => count,
            () = shutdown.wait() => {
                waiting.close();
                waiting.recv_many(&mut taken, usize::MAX).await
            }
        };
        if count == 0 {
            return;
        }
        let mut entries = Vec::new();
        let mut objects = Vec::new();
        let mut in_batch = HashSet::new();
        for pending in taken.drain(..) {
            entries.extend(pending.entries);
            for (hash, content) in pending.objects {
                if !stored.contains_key(&hash) && in_batch.insert(hash) {
                    objects.push((hash, content));
                }
            }
        }
        let written = entries.len() as u64;
        let mut result = log.append(entries.clone(), objects.clone()).await;
        for _ in 0..20 {
            if !result.as_ref().is_err_and(StorageError::is_retryable) {
                break;
            }
            tokio::time::sleep(RETRY).await;
            result = log.append(entries.clone(), objects.clone()).await;
        }
        match result {
            Ok(()) => {
                in_batch.into_iter().for_each(|hash| stored.insert(hash, ()));
                metrics.decisions_stored(written);
            }
            Err(_) => metrics.decisions_dropped("store", written),
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
            parts.metrics.background_failed("retain");
        }
        let day = ((parts.clock)() - 31 * 86_400_000).div_euclid(86_400_000);
        if parts.event_log.forget_dedup_before(day).await.is_err() {
            parts.metrics.background_failed("forget_dedup");
        }
    }
}
