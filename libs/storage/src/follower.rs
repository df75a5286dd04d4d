//! Reading a topic over all its partitions, from where the reader stands.

use crate::{Bounds, EventLog, Record, StorageError, Topic, partition_of};
use futures::future::select_all;
use std::sync::Arc;
use std::time::Duration;

/// A reader of every partition of a topic, at leisure. Records of a partition come in order; partitions are not ordered
/// among themselves.
pub struct Follower {
    log: Arc<dyn EventLog>,
    topic: Topic,
    /// Next offset of each partition.
    next: Vec<u64>,
    /// The partition that is asked first, so that a busy one does not starve the others.
    turn: usize,
}

impl Follower {
    /// Begins where `from` says for each partition.
    pub async fn start(
        log: Arc<dyn EventLog>,
        topic: Topic,
        from: impl Fn(Bounds) -> u64,
    ) -> Result<Self, StorageError> {
        let next = log.partitions(topic).await?.into_iter().map(from).collect();
        Ok(Self { log, topic, next, turn: 0 })
    }

    /// Up to `max` records of one partition; waits up to `wait` for any. Loses nothing when it is given up.
    pub async fn read(&mut self, max: usize, wait: Duration) -> Result<Vec<(u64, Record)>, StorageError> {
        let mut found = Vec::new();
        for step in 0..self.next.len() {
            let from = self.next[(self.turn + step) % self.next.len()];
            found = self.log.read_at_leisure(self.topic, from, max, Duration::ZERO).await?;
            if !found.is_empty() {
                break;
            }
        }
        if found.is_empty() {
            let reads = self.next.iter().map(|&from| self.log.read_at_leisure(self.topic, from, max, wait));
            found = select_all(reads).await.0?;
        }
        if let Some(&(last, _)) = found.last() {
            let partition = usize::from(partition_of(last));
            self.next[partition] = last + 1;
            self.turn = partition + 1;
        }
        Ok(found)
    }
}
