//! What has happened, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        #[derive(Debug, Default)]
        pub struct EmbedderStats { $($(#[$doc])* pub $name: AtomicU64),+ }
    };
}
counters! {
    /// Events applied to a state.
    events,
    /// Attribute records applied to a state.
    attributes,
    /// Records of erased visitors, ignored.
    void,
    /// Visitors erased.
    erased,
    /// Records that could not be processed and went to the dead topic.
    dead,
    /// Impressions counted for posteriors.
    impressions,
    /// Rewards counted for posteriors.
    rewards,
    /// Steps repeated because a store failed.
    retries,
    /// Records of user-events not yet applied, as of the last step.
    lag,
    /// When the oldest record that is read but not yet applied was accepted, in Unix milliseconds; 0 when none waits.
    waiting_since,
}

impl EmbedderStats {
    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}
