//! How far each consumer has come, and waiting for it.

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

pub(crate) struct Progress(watch::Sender<BTreeMap<String, u64>>);

impl Progress {
    pub(crate) fn new(offsets: BTreeMap<String, u64>) -> Self {
        Self(watch::Sender::new(offsets))
    }

    pub(crate) fn get(&self, consumer: &str) -> u64 {
        self.0.borrow().get(consumer).copied().unwrap_or(0)
    }

    pub(crate) fn set(&self, consumer: &str, next_offset: u64) {
        self.0.send_modify(|offsets| {
            offsets.insert(consumer.to_owned(), next_offset);
        });
    }

    pub(crate) async fn wait(&self, consumer: &str, offset: u64, wait: Duration) -> u64 {
        if self.get(consumer) < offset {
            let mut moved = self.0.subscribe();
            let reached = moved.wait_for(|offsets| offsets.get(consumer).is_some_and(|&at| at >= offset));
            // Late or not, the answer is how far it has come.
            let _ = tokio::time::timeout(wait, reached).await.map(drop);
        }
        self.get(consumer)
    }
}
