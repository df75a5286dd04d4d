//! Passes every batch on to all subscribers but its publisher.

use super::wire::{from_wire, to_wire};
use crate::bus::{Decision, DecisionBus, DecisionSink};
use attune_proto::telemetry::v1 as wire;
use attune_proto::telemetry::v1::decision_bus_service_server::{DecisionBusService, DecisionBusServiceServer};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use tokio::sync::broadcast;
use tokio_stream::Stream;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::{Request, Response, Status};

/// Batches that a subscriber may lag behind: some ten seconds of one publisher.
const MAX_LAG: usize = 256;

/// In the process that hosts it, it is that process's bus as well.
#[derive(Clone)]
pub struct DecisionHub(Arc<Inner>);

struct Inner {
    sink: Arc<dyn DecisionSink>,
    /// None once closed.
    fan_out: Mutex<Option<broadcast::Sender<Arc<wire::DecisionBatch>>>>,
    missed: Arc<AtomicU64>,
}

impl DecisionHub {
    /// `sink` is the hosting process's.
    pub fn new(sink: Arc<dyn DecisionSink>) -> Self {
        let fan_out = Mutex::new(Some(broadcast::Sender::new(MAX_LAG)));
        Self(Arc::new(Inner { sink, fan_out, missed: Arc::default() }))
    }

    pub fn server(&self) -> DecisionBusServiceServer<Self> {
        DecisionBusServiceServer::new(self.clone())
    }

    /// Ends every subscription, so that the server can drain.
    pub fn close(&self) {
        self.0.fan_out.lock().take();
    }

    fn pass_on(&self, batch: wire::DecisionBatch) {
        if let Some(fan_out) = &*self.0.fan_out.lock() {
            // Nobody listening is fine.
            let _ = fan_out.send(Arc::new(batch));
        }
    }
}

impl DecisionBus for DecisionHub {
    fn publish(&self, decisions: Vec<Decision>) {
        self.pass_on(to_wire(&decisions));
    }

    /// Batches that slow subscribers missed.
    fn lost(&self) -> u64 {
        self.0.missed.load(Relaxed)
    }
}

#[tonic::async_trait]
impl DecisionBusService for DecisionHub {
    type SubscribeStream = Subscription;

    async fn publish(&self, request: Request<wire::PublishRequest>) -> Result<Response<wire::PublishResponse>, Status> {
        let batch = request.into_inner().batch.unwrap_or_default();
        let decisions = from_wire(&batch)?;
        self.0.sink.hear(&decisions);
        self.pass_on(batch);
        Ok(Response::new(wire::PublishResponse {}))
    }

    async fn subscribe(&self, request: Request<wire::SubscribeRequest>) -> Result<Response<Subscription>, Status> {
        let receiver = self.0.fan_out.lock().as_ref().map(broadcast::Sender::subscribe);
        let receiver = receiver.ok_or_else(|| Status::unavailable("the hub is closing"))?;
        Ok(Response::new(Subscription {
            batches: BroadcastStream::new(receiver),
            origin: request.into_inner().origin,
            missed: self.0.missed.clone(),
        }))
    }
}

/// What one subscriber gets.
pub struct Subscription {
    batches: BroadcastStream<Arc<wire::DecisionBatch>>,
    origin: u32,
    missed: Arc<AtomicU64>,
}

impl Stream for Subscription {
    type Item = Result<wire::SubscribeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(Pin::new(&mut self.batches).poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(Err(BroadcastStreamRecvError::Lagged(batches))) => {
                    self.missed.fetch_add(batches, Relaxed);
                }
                Some(Ok(batch)) if batch.origin == self.origin => {}
                Some(Ok(batch)) => {
                    return Poll::Ready(Some(Ok(wire::SubscribeResponse { batch: Some((*batch).clone()) })));
                }
            }
        }
    }
}
