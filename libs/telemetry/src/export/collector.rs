//! Traces to an OpenTelemetry Collector over OTLP/gRPC.
//!
//! A receiver that is away is asked again with growing pauses; what waits meanwhile is bounded by the queue, and a batch
//! that it does not take within a minute is lost and counted.

use super::otlp::request;
use super::{Destination, Lost, Queue};
use crate::settle::KeptTrace;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectorError {
    #[error("want an address such as \"http://127.0.0.1:4317\" or \"unix:/path\"")]
    Address,
    #[error("start the exporter's runtime")]
    Runtime(#[source] std::io::Error),
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Collector {
    runtime: Runtime,
    client: TraceServiceClient<Channel>,
}

impl Collector {
    pub(crate) fn new(address: &str, timeout: Duration) -> Result<Self, CollectorError> {
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| CollectorError::Address)?;
        if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().host().is_none() {
            return Err(CollectorError::Address);
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CollectorError::Runtime)?;
        let _inside = runtime.enter();
        let channel = endpoint.connect_timeout(timeout).timeout(timeout).connect_lazy();
        drop(_inside);
        Ok(Self { runtime, client: TraceServiceClient::new(channel) })
    }
}

impl Destination for Collector {
    const LINGER: Duration = Duration::from_millis(200);

    fn deliver(&mut self, batch: &[Arc<KeptTrace>], queue: &Queue) -> Result<(), Lost> {
        let message = request(batch);
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.runtime.block_on(self.client.export(message.clone())) {
                Ok(answer) => return taken(&answer.into_inner()),
                Err(status) if !may_pass(&status) => return Err(Lost::Refused),
                Err(_) if begun.elapsed() + pause > PATIENCE || queue.stopped_within(spread(pause, begun)) => {
                    return Err(Lost::SendFailed);
                }
                Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }
}

fn taken(answer: &ExportTraceServiceResponse) -> Result<(), Lost> {
    match &answer.partial_success {
        Some(part) if part.rejected_spans > 0 => {
            Err(Lost::Partly(usize::try_from(part.rejected_spans).unwrap_or(usize::MAX)))
        }
        _ => Ok(()),
    }
}

/// The codes that OTLP says to try again.
fn may_pass(status: &Status) -> bool {
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        // OTLP wants a hint from the server here; the pause is the same without.
        | Code::ResourceExhausted => true,
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::Unauthenticated => false,
    }
}

/// Half to all of the pause, so that processes that lost a receiver together do not come back together.
fn spread(pause: Duration, begun: Instant) -> Duration {
    let chance = crate::telemetry::mix(begun.elapsed().as_nanos() as u64) as u32;
    pause.mul_f64(0.5 + 0.5 * f64::from(chance) / f64::from(u32::MAX))
}
