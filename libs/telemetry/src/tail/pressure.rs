//! How full the store is, and what that changes.

use super::TailLimits;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering::Relaxed};

/// Shares of a bound in percent, at which the wait gets short, and below which all is well again.
const SHORT_WAIT: usize = 80;
const RELIEVED: usize = 60;

/// What the store holds. Counted by several threads without a common lock, so a reader may see a moment that never was.
#[derive(Debug, Default)]
pub(crate) struct Load {
    bytes: AtomicIsize,
    traces: AtomicIsize,
    spans: AtomicIsize,
}

impl Load {
    pub(super) fn bytes(&self, change: isize) {
        self.bytes.fetch_add(change, Relaxed);
    }

    pub(super) fn trace(&self, change: isize) {
        self.traces.fetch_add(change, Relaxed);
    }

    pub(super) fn spans(&self, change: isize) {
        self.spans.fetch_add(change, Relaxed);
    }

    /// Bytes, traces in progress or waiting, and spans that wait.
    pub(crate) fn now(&self) -> [usize; 3] {
        [&self.bytes, &self.traces, &self.spans].map(|value| value.load(Relaxed).max(0) as usize)
    }

    pub(super) fn over(&self, limits: &TailLimits) -> bool {
        let [bytes, traces, _] = self.now();
        bytes > limits.bytes || traces > limits.traces
    }

    fn percent(&self, limits: &TailLimits) -> usize {
        let [bytes, traces, _] = self.now();
        (bytes * 100 / limits.bytes.max(1)).max(traces * 100 / limits.traces.max(1))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Pressure {
    short_wait: AtomicBool,
    stress: AtomicBool,
    evicted: AtomicU64,
    refused: AtomicU64,
    promoted: AtomicU64,
}

impl Pressure {
    pub(crate) fn short_wait(&self) -> bool {
        self.short_wait.load(Relaxed)
    }

    /// Local roots that the head does not want are not recorded.
    pub(crate) fn stress(&self) -> bool {
        self.stress.load(Relaxed)
    }

    /// Parts dropped before their time, and roots not recorded because even stress mode was not enough.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [self.evicted.load(Relaxed), self.refused.load(Relaxed)]
    }

    /// Traces promoted after parts of them had been dropped for room.
    pub(crate) fn promoted(&self) -> u64 {
        self.promoted.load(Relaxed)
    }

    pub(super) fn weigh(&self, load: &Load, limits: &TailLimits) {
        let percent = load.percent(limits);
        if percent >= SHORT_WAIT {
            self.short_wait.store(true, Relaxed);
        } else if percent < RELIEVED {
            self.short_wait.store(false, Relaxed);
            self.stress.store(false, Relaxed);
        }
    }

    pub(super) fn begin_stress(&self) {
        self.stress.store(true, Relaxed);
    }

    pub(super) fn count_evicted(&self, parts: usize) {
        self.evicted.fetch_add(parts as u64, Relaxed);
    }

    pub(super) fn count_promoted(&self) {
        self.promoted.fetch_add(1, Relaxed);
    }

    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}
