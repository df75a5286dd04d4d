//! Promotions of traces over the event log, topic `trace-decisions`: every process writes its own batches and reads all.
//!
//! For logs that forget by themselves, such as Kafka: nothing here trims the topic. Reading begins at its end; what was
//! decided before concerns traces that are not here.

use crate::{EventLog, Record, Topic};
use attune_telemetry::bus::{Decision, DecisionBus, DecisionSink, decode, encode};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Batches that wait while the log is away or slow: three seconds.
const MAX_WAITING: usize = 64;
const SEND_LIMIT: Duration = Duration::from_secs(2);
const READ_MOST: usize = 256;
const READ_WAIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);

/// Ends its work when dropped.
pub struct EventLogBus {
    batches: mpsc::Sender<Vec<Decision>>,
    lost: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl EventLogBus {
    /// `sink` hears what others publish; a process without one only publishes. Call it inside a runtime.
    pub fn connect(log: Arc<dyn EventLog>, sink: Option<Arc<dyn DecisionSink>>) -> Self {
        let (batches, waiting) = mpsc::channel(MAX_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(send(Arc::clone(&log), waiting, Arc::clone(&lost)));
        if let Some(sink) = sink {
            tasks.spawn(listen(log, sink));
        }
        Self { batches, lost, _tasks: tasks }
    }
}

impl DecisionBus for EventLogBus {
    fn publish(&self, decisions: Vec<Decision>) {
        if let Err(refused) = self.batches.try_send(decisions) {
            self.lost.fetch_add(refused.into_inner().len() as u64, Relaxed);
        }
    }

    fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

async fn send(log: Arc<dyn EventLog>, mut waiting: mpsc::Receiver<Vec<Decision>>, lost: Arc<AtomicU64>) {
    while let Some(decisions) = waiting.recv().await {
        let key = decisions.first().map_or(0, |decision| decision.origin);
        let record = Record {
            key: Bytes::copy_from_slice(&key.to_be_bytes()),
            value: Bytes::from(encode(&decisions)),
            traceparent: String::new(),
        };
        let appended = log.append(Topic::TraceDecisions, vec![(record, None)]);
        if !matches!(tokio::time::timeout(SEND_LIMIT, appended).await, Ok(Ok(_))) {
            lost.fetch_add(decisions.len() as u64, Relaxed);
        }
    }
}

async fn listen(log: Arc<dyn EventLog>, sink: Arc<dyn DecisionSink>) {
    let mut next = loop {
        match log.bounds(Topic::TraceDecisions).await {
            Ok(bounds) => break bounds.end,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    loop {
        let Ok(records) = log.read(Topic::TraceDecisions, next, READ_MOST, READ_WAIT).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        for (offset, record) in records {
            next = offset + 1;
            // One that cannot be read is of a process that does not keep to the contract.
            if let Ok(decisions) = decode(&record.value) {
                // The sink leaves out its own.
                sink.hear(&decisions);
            }
        }
    }
}
