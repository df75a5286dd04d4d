//! Decision records on their way to the origin: bounded, batched, never waited for by a request.

use crate::config::RecordsConfig;
use crate::object::Object;
use crate::telemetry::EdgeMetrics;
use attune_decision::{DecisionRecord, encode_record};
use attune_domain::{BySpread, RequestId};
use attune_proto::origin::v1 as origin;
use attune_proto::origin::v1::origin_service_client::OriginServiceClient;
use attune_rpc::{Channel, Scope};
use attune_runtime::Shutdown;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, Notify};

const SEND_DEADLINE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(100);
struct Waiting {
    id: RequestId,
    record: Bytes,
    /// What the record names and the origin may not have yet.
    objects: Vec<Object>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Waiting or on their way.
    ids: HashSet<RequestId, BySpread>,
}

pub(crate) struct Recorder {
    queue: Mutex<Queue>,
    full: Notify,
    /// One sender at a time, so that records arrive with or after the objects they name.
    client: AsyncMutex<OriginServiceClient<Channel>>,
    config: RecordsConfig,
    metrics: EdgeMetrics,
}

impl Recorder {
    pub(crate) fn new(client: OriginServiceClient<Channel>, config: RecordsConfig, metrics: EdgeMetrics) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            full: Notify::new(),
            client: AsyncMutex::new(client),
            config,
            metrics,
        })
    }

    /// Queues a record with the objects it names; a full queue drops it and counts it.
    pub(crate) fn record(&self, id: RequestId, record: &DecisionRecord, objects: &[&Object]) {
        let record = Bytes::from(encode_record(record));
        let objects = objects.iter().filter(|object| !object.is_sent()).map(|&object| object.clone()).collect();
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= self.config.queue {
            drop(queue);
            self.metrics.record_dropped();
            return;
        }
        queue.ids.insert(id);
        queue.waiting.push(Waiting { id, record, objects });
        if queue.waiting.len() == self.config.batch {
            self.full.notify_one();
        }
    }

    /// Sends what waits now if any of these decisions is among it, so that the origin can look them up.
    pub(crate) async fn flush_for(&self, ids: impl IntoIterator<Item = RequestId>) {
        let waits = {
            let queue = self.queue.lock();
            ids.into_iter().any(|id| queue.ids.contains(&id))
        };
        if waits {
            self.send().await;
        }
    }

    /// Sends batches until told to stop, then what is left.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.wait() => break,
                () = self.full.notified() => {}
                () = tokio::time::sleep(self.config.every.get()) => {}
            }
            while self.queue.lock().waiting.len() >= self.config.batch {
                if !self.send().await {
                    tokio::time::sleep(RETRY).await;
                    break;
                }
            }
            if !self.queue.lock().waiting.is_empty() && !self.send().await {
                tokio::time::sleep(RETRY).await;
            }
        }
        while !self.queue.lock().waiting.is_empty() && self.send().await {}
    }

    /// Sends one batch; gives whether it arrived. A batch that did not goes back to the queue.
    async fn send(&self) -> bool {
        let mut client = self.client.lock().await;
        let batch: Vec<Waiting> = {
            let mut queue = self.queue.lock();
            if queue.waiting.len() <= self.config.batch {
                let next = Vec::with_capacity(queue.waiting.len());
                std::mem::replace(&mut queue.waiting, next)
            } else {
                queue.waiting.drain(..self.config.batch).collect()
            }
        };
        if batch.is_empty() {
            return true;
        }
        let mut named: HashSet<[u8; 16], BySpread> = HashSet::default();
        let unsent = || batch.iter().flat_map(|waiting| &waiting.objects).filter(|object| !object.is_sent());
        let objects = unsent()
            .filter(|object| named.insert(*object.hash()))
            .map(|object| origin::Object { hash: object.name(), content: object.content().clone() })
            .collect();
        let records = batch.iter().map(|waiting| waiting.record.clone()).collect();
        let message = origin::AppendDecisionsRequest { records, objects };
        let arrived =
            client.append_decisions(attune_rpc::request(message, &Scope::detached(), SEND_DEADLINE)).await.is_ok();
        let mut queue = self.queue.lock();
        if arrived {
            for waiting in &batch {
                queue.ids.remove(&waiting.id);
            }
            drop(queue);
            unsent().for_each(Object::set_sent);
        } else {
            let room = self.config.queue.saturating_sub(queue.waiting.len());
            for lost in batch.iter().skip(room) {
                queue.ids.remove(&lost.id);
                self.metrics.record_dropped();
            }
            let newer = std::mem::take(&mut queue.waiting);
            queue.waiting = batch.into_iter().take(room).chain(newer).collect();
        }
        arrived
    }
}
