//! How far each consumer has come in each partition, and waiting for it.

use crate::{
    EffectBatch, Positions, StorageError, USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER, first_offset, partition_of,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// Next offsets by consumer and partition.
type Offsets = BTreeMap<(String, u16), u64>;

pub(crate) struct Progress(watch::Sender<Offsets>);

fn at(offsets: &Offsets, consumer: &str, partition: u16) -> u64 {
    offsets.get(&(consumer.to_owned(), partition)).copied().unwrap_or(first_offset(partition))
}

impl Progress {
    pub(crate) fn new(offsets: Offsets) -> Self {
        Self(watch::Sender::new(offsets))
    }

    pub(crate) fn get(&self, consumer: &str, partition: u16) -> u64 {
        at(&self.0.borrow(), consumer, partition)
    }

    pub(crate) fn set(&self, consumer: &str, next_offset: u64) {
        self.0.send_modify(|offsets| {
            offsets.insert((consumer.to_owned(), partition_of(next_offset)), next_offset);
        });
    }

    pub(crate) async fn wait(&self, consumer: &str, offset: u64, wait: Duration) -> u64 {
        let partition = partition_of(offset);
        if self.get(consumer, partition) < offset {
            let mut moved = self.0.subscribe();
            let reached = moved.wait_for(|offsets| at(offsets, consumer, partition) >= offset);
            // Late or not, the answer is how far it has come.
            let _ = tokio::time::timeout(wait, reached).await.map(drop);
        }
        self.get(consumer, partition)
    }

    pub(crate) fn positions(&self, partition: u16) -> Positions {
        let of = |consumer| self.get(consumer, partition);
        Positions { events: of(USER_EVENTS_CONSUMER), updates: of(USER_UPDATES_CONSUMER) }
    }

    pub(crate) fn set_positions(&self, positions: Positions) {
        positions.by_consumer().into_iter().for_each(|(consumer, next_offset)| self.set(consumer, next_offset));
    }

    /// Whether a partition stands where a restoration expects it.
    pub(crate) fn check_positions(&self, partition: u16, expected: Positions) -> Result<(), StorageError> {
        expected.check(self.positions(partition))
    }

    /// Whether a batch continues where its consumer is.
    pub(crate) fn check(&self, batch: &EffectBatch) -> Result<(), StorageError> {
        let found = self.get(batch.consumer, partition_of(batch.expected_offset));
        let expected = batch.expected_offset;
        if found == expected { Ok(()) } else { Err(StorageError::Conflict { expected, found }) }
    }
}

impl EffectBatch {
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        if self.next_offset < self.expected_offset {
            return Err(StorageError::invalid("next_offset", "must not be before the expected offset"));
        }
        if partition_of(self.next_offset) != partition_of(self.expected_offset) {
            return Err(StorageError::invalid("next_offset", "must be in the partition of the expected offset"));
        }
        Ok(())
    }
}
