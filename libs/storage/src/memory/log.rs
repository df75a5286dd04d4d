//! Topics as vectors.

use crate::accepted::{accepted_at, check_topic, first_from, no_partition};
use crate::limits::append_bytes;
use crate::{Appended, Bounds, DedupKey, EventLog, KeyErasure, MAX_READ_BYTES, Record, StorageError, Topic};
use async_trait::async_trait;
use attune_domain::UnixMillis;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

#[derive(Default)]
pub struct MemoryEventLog {
    topics: [Mutex<TopicState>; Topic::ALL.len()],
    ends: [watch::Sender<u64>; Topic::ALL.len()],
}

#[derive(Default)]
struct TopicState {
    records: Vec<Record>,
    dedup: BTreeMap<(i64, bytes::Bytes), u64>,
}

#[async_trait]
impl EventLog for MemoryEventLog {
    async fn append(
        &self,
        topic: Topic,
        records: Vec<(Record, Option<DedupKey>)>,
    ) -> Result<Vec<Appended>, StorageError> {
        append_bytes(records.iter().map(|(record, _)| record))?;
        let mut state = self.topics[topic as usize].lock();
        let mut answer = Vec::with_capacity(records.len());
        for (record, identity) in records {
            let next = state.records.len() as u64;
            if let Some(DedupKey { day, identity }) = identity {
                let at = *state.dedup.entry((day, identity)).or_insert(next);
                if at != next {
                    answer.push(Appended::Duplicate(at));
                    continue;
                }
            }
            state.records.push(record);
            answer.push(Appended::New(next));
        }
        self.ends[topic as usize].send_replace(state.records.len() as u64);
        Ok(answer)
    }

    async fn read(
        &self,
        topic: Topic,
        from: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Record)>, StorageError> {
        let mut end = self.ends[topic as usize].subscribe();
        let arrived = matches!(tokio::time::timeout(wait, end.wait_for(|&end| end > from)).await, Ok(Ok(_)));
        let mut found = Vec::new();
        if !arrived {
            return Ok(found);
        }
        let state = self.topics[topic as usize].lock();
        let mut bytes = 0;
        for (at, record) in (from..).zip(&state.records[from as usize..]).take(max) {
            bytes += record.bytes();
            found.push((at, record.clone()));
            if bytes >= MAX_READ_BYTES {
                break;
            }
        }
        Ok(found)
    }

    async fn partitions(&self, topic: Topic) -> Result<Vec<Bounds>, StorageError> {
        Ok(vec![Bounds { start: 0, end: self.topics[topic as usize].lock().records.len() as u64 }])
    }

    async fn offset_at(&self, topic: Topic, partition: u16, at: UnixMillis) -> Result<u64, StorageError> {
        check_topic(topic)?;
        let state = self.topics[topic as usize].lock();
        let bounds = Bounds { start: 0, end: state.records.len() as u64 };
        match partition {
            0 => first_from(bounds, at, |offset| Ok(state.records.get(offset as usize).and_then(accepted_at))),
            _ => Err(no_partition(partition)),
        }
    }

    async fn erase_key(&self, topic: Topic, key: bytes::Bytes, before: u64) -> Result<KeyErasure, StorageError> {
        let mut state = self.topics[topic as usize].lock();
        let mut erased = 0;
        for record in state.records.iter_mut().take(before as usize).filter(|record| record.key == key) {
            *record = Record { key: bytes::Bytes::new(), value: bytes::Bytes::new(), traceparent: String::new() };
            erased += 1;
        }
        Ok(KeyErasure::Emptied(erased))
    }

    async fn forget_dedup_before(&self, day: i64) -> Result<(), StorageError> {
        for topic in &self.topics {
            let mut state = topic.lock();
            state.dedup = state.dedup.split_off(&(day, bytes::Bytes::new()));
        }
        Ok(())
    }
}
