//! A process's connection to the hub. Connects when it can, and again after every loss.

use super::wire::{MAX_DECISIONS, from_wire, to_wire};
use crate::bus::{Decision, DecisionBus, DecisionSink};
use attune_proto::telemetry::v1 as wire;
use attune_proto::telemetry::v1::decision_bus_service_client::DecisionBusServiceClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Batches that wait while the hub is away or slow: three seconds.
const MAX_WAITING: usize = 64;
/// Longer than others wait for it, because a hub that is stopped does not wait either.
const SEND_LIMIT: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// Who listens besides publishing. An edge does not: it learns by headers, and there are many.
pub enum Listening {
    No,
    To { origin: u32, sink: Arc<dyn DecisionSink> },
}

/// Ends its connections when dropped.
pub struct Spoke {
    batches: mpsc::Sender<Vec<Decision>>,
    lost: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Spoke {
    /// `channel` connects lazily and carries none of our layers: the bus has no spans. Call it inside a runtime.
    pub fn connect(channel: Channel, listening: Listening) -> Self {
        let (batches, waiting) = mpsc::channel(MAX_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let client = DecisionBusServiceClient::new(channel);
        let mut tasks = JoinSet::new();
        tasks.spawn(send(client.clone(), waiting, lost.clone()));
        if let Listening::To { origin, sink } = listening {
            tasks.spawn(listen(client, origin, sink));
        }
        Self { batches, lost, _tasks: tasks }
    }
}

impl DecisionBus for Spoke {
    fn publish(&self, decisions: Vec<Decision>) {
        if let Err(refused) = self.batches.try_send(decisions) {
            self.lost.fetch_add(refused.into_inner().len() as u64, Relaxed);
        }
    }

    fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

async fn send(
    mut client: DecisionBusServiceClient<Channel>,
    mut waiting: mpsc::Receiver<Vec<Decision>>,
    lost: Arc<AtomicU64>,
) {
    while let Some(mut decisions) = waiting.recv().await {
        // What has gathered behind a slow one goes together.
        while decisions.len() < MAX_DECISIONS / 2
            && let Ok(more) = waiting.try_recv()
        {
            decisions.extend(more);
        }
        lost.fetch_add(decisions.len().saturating_sub(MAX_DECISIONS) as u64, Relaxed);
        decisions.truncate(MAX_DECISIONS);
        let request = wire::PublishRequest { batch: Some(to_wire(&decisions)) };
        let mut pause = FIRST_PAUSE;
        let arrived = tokio::time::timeout(SEND_LIMIT, async {
            // Heard twice is as good as once, so an answer that was lost is asked for again.
            while client.publish(request.clone()).await.is_err() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        });
        if arrived.await.is_err() {
            lost.fetch_add(decisions.len() as u64, Relaxed);
        }
    }
}

async fn listen(mut client: DecisionBusServiceClient<Channel>, origin: u32, sink: Arc<dyn DecisionSink>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(answer) = client.subscribe(wire::SubscribeRequest { origin }).await {
            let mut batches = answer.into_inner();
            while let Ok(Some(message)) = batches.message().await {
                pause = FIRST_PAUSE;
                // A hub that does not keep to the contract says nothing that we could use.
                if let Ok(decisions) = from_wire(&message.batch.unwrap_or_default()) {
                    sink.hear(&decisions);
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
