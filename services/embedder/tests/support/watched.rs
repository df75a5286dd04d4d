//! A log that tells where it was read, and that can have dropped its first records.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

use async_trait::async_trait;
use attune_storage::{
    Appended, Bounds, DedupKey, EventLog, KeyErasure, MemoryEventLog, Record, StorageError, Topic, first_offset,
};
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

#[derive(Default)]
pub struct WatchedLog {
    inner: MemoryEventLog,
    /// Records of user-events before this one are gone.
    pub start: AtomicU64,
    /// Records of user-events that were given to readers, and the first of them.
    pub read: AtomicU64,
    pub lowest: AtomicU64,
    /// Empty partitions after the first, which are other members'.
    pub others: AtomicU64,
}

impl WatchedLog {
    pub fn begin(&self) {
        self.read.store(0, SeqCst);
        self.lowest.store(u64::MAX, SeqCst);
    }
}

#[async_trait]
impl EventLog for WatchedLog {
    async fn append(
        &self,
        topic: Topic,
        records: Vec<(Record, Option<DedupKey>)>,
    ) -> Result<Vec<Appended>, StorageError> {
        self.inner.append(topic, records).await
    }

    async fn read(
        &self,
        topic: Topic,
        from: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Record)>, StorageError> {
        if topic != Topic::UserEvents {
            return self.inner.read(topic, from, max, wait).await;
        }
        let found = self.inner.read(topic, from.max(self.start.load(SeqCst)), max, wait).await?;
        self.read.fetch_add(found.len() as u64, SeqCst);
        if let Some((first, _)) = found.first() {
            self.lowest.fetch_min(*first, SeqCst);
        }
        Ok(found)
    }

    async fn partitions(&self, topic: Topic) -> Result<Vec<Bounds>, StorageError> {
        let mut partitions = self.inner.partitions(topic).await?;
        if topic == Topic::UserEvents {
            partitions[0].start = self.start.load(SeqCst);
            let others = (1..=self.others.load(SeqCst)).map(|n| first_offset(n as u16));
            partitions.extend(others.map(|first| Bounds { start: first, end: first }));
        }
        Ok(partitions)
    }

    async fn offset_at(&self, topic: Topic, partition: u16, at: i64) -> Result<u64, StorageError> {
        self.inner.offset_at(topic, partition, at).await
    }

    async fn erase_key(&self, topic: Topic, key: Bytes, before: u64) -> Result<KeyErasure, StorageError> {
        self.inner.erase_key(topic, key, before).await
    }

    async fn forget_dedup_before(&self, day: i64) -> Result<(), StorageError> {
        self.inner.forget_dedup_before(day).await
    }
}
