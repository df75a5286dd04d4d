//! The way of kept traces out of the process. Nothing here is on the request path but a push into a bounded queue.
//!
//! Each destination has a queue and a thread of its own, so that a dead Collector does not hold up the file.

mod collector;
mod file;
mod otlp;
mod queue;

pub(crate) use collector::Collector;
pub(crate) use file::TraceFile;
pub(crate) use otlp::Resource;
pub(crate) use queue::{ExportMetrics, Lane, Queue};

use crate::settle::KeptTrace;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Where traces go.
pub(crate) trait Destination: Send + 'static {
    /// How long a trace may wait for others to go with it.
    const LINGER: Duration;

    /// Delivers the batch, which may take its time; gives up early when the queue is stopped.
    fn deliver(&mut self, batch: &[Arc<KeptTrace>], queue: &Queue) -> Result<(), Lost>;
}

/// Why a batch did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    WriteFailed,
    /// The receiver could not be reached, or was busy, for too long.
    SendFailed,
    /// The receiver will not have it.
    Refused,
    /// The receiver took all but this many.
    Partly(usize),
}

/// The queues to all destinations.
#[derive(Default)]
pub(crate) struct Exporters(Vec<Arc<Queue>>);

impl Exporters {
    pub(crate) fn add<D: Destination>(
        &mut self,
        thread: &str,
        mut destination: D,
        limit: usize,
        metrics: &ExportMetrics,
    ) -> io::Result<()> {
        let queue = Arc::new(Queue::new(limit, metrics.clone()));
        let worker = queue.clone();
        std::thread::Builder::new().name(thread.into()).spawn(move || {
            while let Some(batch) = worker.next(D::LINGER) {
                if let Err(lost) = destination.deliver(&batch, &worker) {
                    worker.count_lost(&batch, lost);
                }
            }
        })?;
        self.0.push(queue);
        Ok(())
    }

    pub(crate) fn push(&self, trace: KeptTrace) {
        let trace = Arc::new(trace);
        self.0.iter().for_each(|queue| queue.push(trace.clone()));
    }

    /// Waits until all that was pushed has arrived or is lost; false when `limit` passed first.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let until = std::time::Instant::now() + limit;
        self.0.iter().all(|queue| queue.flush(until))
    }

    pub(crate) fn stop(&self) {
        self.0.iter().for_each(|queue| queue.stop());
    }
}
