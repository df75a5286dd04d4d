//! Within one process: what is published is heard before publishing returns.

use super::{Decision, DecisionBus, DecisionSink};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

#[derive(Default)]
pub struct MemoryBus(Mutex<Vec<(u32, Weak<dyn DecisionSink>)>>);

impl MemoryBus {
    /// `sink` hears all that others than `origin` publish, for as long as it lives.
    pub fn subscribe(&self, origin: u32, sink: &Arc<dyn DecisionSink>) {
        self.0.lock().push((origin, Arc::downgrade(sink)));
    }
}

impl DecisionBus for MemoryBus {
    fn publish(&self, decisions: Vec<Decision>) {
        let Some(first) = decisions.first() else { return };
        let sinks: Vec<_> = {
            let mut sinks = self.0.lock();
            sinks.retain(|(_, sink)| sink.strong_count() > 0);
            sinks.iter().filter(|(origin, _)| *origin != first.origin).filter_map(|(_, sink)| sink.upgrade()).collect()
        };
        sinks.iter().for_each(|sink| sink.hear(&decisions));
    }

    fn lost(&self) -> u64 {
        0
    }
}
