//! Decisions of this process until the next batch leaves.

use super::{Decision, DecisionBus};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// Decisions that may wait. A batch leaves every 50 ms, so this is 80,000 a second.
const MAX_WAITING: usize = 4096;

/// Without a bus, nothing waits and nothing is lost: there is nobody to tell.
#[derive(Default)]
pub(crate) struct Outbox {
    bus: OnceLock<Arc<dyn DecisionBus>>,
    waiting: Mutex<Vec<Decision>>,
    overflowed: AtomicU64,
}

impl Outbox {
    /// The first bus stays.
    pub(crate) fn attach(&self, bus: Arc<dyn DecisionBus>) -> bool {
        self.bus.set(bus).is_ok()
    }

    pub(crate) fn attached(&self) -> bool {
        self.bus.get().is_some()
    }

    pub(crate) fn push(&self, decision: Decision) {
        if !self.attached() {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() < MAX_WAITING {
            waiting.push(decision);
        } else {
            self.overflowed.fetch_add(1, Relaxed);
        }
    }

    /// Sends what waits, dated `unix_ms`; gives how many decisions that were.
    pub(crate) fn send(&self, unix_ms: u32) -> usize {
        let Some(bus) = self.bus.get() else { return 0 };
        let mut batch = std::mem::take(&mut *self.waiting.lock());
        batch.iter_mut().for_each(|decision| decision.unix_ms = unix_ms);
        let count = batch.len();
        if count > 0 {
            bus.publish(batch);
        }
        count
    }

    pub(crate) fn lost(&self) -> u64 {
        self.overflowed.load(Relaxed) + self.bus.get().map_or(0, |bus| bus.lost())
    }
}
