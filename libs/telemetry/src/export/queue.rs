//! A bounded queue with two lanes. What does not fit is dropped, the newest first, and counted; pushing never waits.
//!
//! Promoted traces (errors, slow, forced, LLM) have half of the room for themselves and leave first.

use super::Lost;
use crate::catalogue::names::{TRACE_EXPORT_DROPPED, TRACE_EXPORT_QUEUE};
use crate::settle::KeptTrace;
use crate::{Counter, Gauge, Metrics};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Promoted,
    Sampled,
}

impl Lane {
    const ALL: [Self; 2] = [Self::Promoted, Self::Sampled];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Sampled => "sampled",
        }
    }
}

/// Traces that may wait in one lane, besides the bound on their bytes.
const MAX_WAITING: usize = 8192;
/// Traces, and their bytes, that leave together.
const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Counts what is waiting and what is lost, over all destinations.
#[derive(Clone)]
pub(crate) struct ExportMetrics {
    lanes: [LaneMetrics; 2],
}

#[derive(Clone)]
struct LaneMetrics {
    waiting: Gauge,
    queue_full: Counter,
    write_failed: Counter,
    send_failed: Counter,
    refused: Counter,
}

impl ExportMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let lanes = Lane::ALL.map(|lane| {
            let lane = lane.as_str();
            let dropped = |reason| metrics.counter(&TRACE_EXPORT_DROPPED, &[lane, reason]);
            LaneMetrics {
                waiting: metrics.gauge(&TRACE_EXPORT_QUEUE, &[lane]),
                queue_full: dropped("queue_full"),
                write_failed: dropped("write_failed"),
                send_failed: dropped("send_failed"),
                refused: dropped("refused"),
            }
        });
        Self { lanes }
    }
}

pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    idle: Condvar,
    /// Bytes that each lane may hold.
    limit: usize,
    metrics: ExportMetrics,
}

#[derive(Default)]
struct State {
    lanes: [VecDeque<Arc<KeptTrace>>; 2],
    bytes: [usize; 2],
    delivering: bool,
    /// How many wait for the queue to run empty: then nothing lingers.
    flushing: usize,
    stopped: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    fn fills_a_batch(&self) -> bool {
        self.lanes.iter().map(VecDeque::len).sum::<usize>() >= MAX_BATCH
            || self.bytes.iter().sum::<usize>() >= MAX_BATCH_BYTES
    }
}

impl Queue {
    pub(crate) fn new(limit: usize, metrics: ExportMetrics) -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), idle: Condvar::new(), limit: limit / 2, metrics }
    }

    pub(crate) fn push(&self, trace: Arc<KeptTrace>) {
        let (lane, bytes) = (trace.lane() as usize, trace.bytes());
        let mut state = self.state.lock();
        if state.stopped || state.bytes[lane] + bytes > self.limit || state.lanes[lane].len() >= MAX_WAITING {
            drop(state);
            self.metrics.lanes[lane].queue_full.inc();
            return;
        }
        state.bytes[lane] += bytes;
        state.lanes[lane].push_back(trace);
        self.metrics.lanes[lane].waiting.inc();
        // The worker sleeps while it lingers, and looks by itself after a delivery.
        let first = !state.delivering && state.lanes.iter().map(VecDeque::len).sum::<usize>() == 1;
        if first || state.fills_a_batch() {
            self.wake.notify_one();
        }
    }

    /// The next traces to deliver; the previous ones count as delivered. None after [`stop`](Self::stop), when nothing is
    /// left.
    pub(crate) fn next(&self, linger: Duration) -> Option<Vec<Arc<KeptTrace>>> {
        let mut state = self.state.lock();
        state.delivering = false;
        if state.is_empty() {
            self.idle.notify_all();
        }
        while state.is_empty() {
            if state.stopped {
                return None;
            }
            self.wake.wait(&mut state);
        }
        let until = Instant::now() + linger;
        while !linger.is_zero() && !state.stopped && state.flushing == 0 && !state.fills_a_batch() {
            if self.wake.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.delivering = true;
        Some(self.take(state))
    }

    fn take(&self, mut state: MutexGuard<'_, State>) -> Vec<Arc<KeptTrace>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for lane in Lane::ALL {
            while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
                let Some(trace) = state.lanes[lane as usize].pop_front() else { break };
                let cost = trace.bytes();
                state.bytes[lane as usize] -= cost;
                bytes += cost;
                self.metrics.lanes[lane as usize].waiting.dec();
                batch.push(trace);
            }
        }
        batch
    }

    pub(crate) fn count_lost(&self, batch: &[Arc<KeptTrace>], lost: Lost) {
        let few = if let Lost::Partly(few) = lost { few.min(batch.len()) } else { batch.len() };
        // Which of them a receiver refused it does not say; sampled ones stand last.
        for trace in batch.iter().rev().take(few) {
            let lane = &self.metrics.lanes[trace.lane() as usize];
            match lost {
                Lost::WriteFailed => lane.write_failed.inc(),
                Lost::SendFailed => lane.send_failed.inc(),
                Lost::Refused | Lost::Partly(_) => lane.refused.inc(),
            }
        }
    }

    /// Sleeps; true when the queue was stopped meanwhile or before.
    pub(crate) fn stopped_within(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.stopped {
            if self.wake.wait_until(&mut state, until).timed_out() {
                return state.stopped;
            }
        }
        true
    }

    pub(crate) fn flush(&self, until: Instant) -> bool {
        let mut state = self.state.lock();
        state.flushing += 1;
        self.wake.notify_all();
        while !state.is_empty() || state.delivering {
            if self.idle.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.flushing -= 1;
        state.is_empty() && !state.delivering
    }

    /// Takes no more; what waits is still tried once.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_all();
    }
}
