//! Decision records as a map in time order.

use crate::life::Life;
use crate::limits::decision_bytes;
use crate::references::Names;
use crate::{Decision, DecisionEntry, DecisionLog, ObjectHash, StorageError};
use async_trait::async_trait;
use attune_domain::{RequestId, Uid, UnixMillis};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Default)]
pub struct MemoryDecisionLog(Mutex<State>);

#[derive(Default)]
struct State {
    /// `None` where the visitor was erased.
    records: BTreeMap<RequestId, Option<(DecisionEntry, Names)>>,
    objects: HashMap<ObjectHash, Bytes>,
    lives: HashMap<ObjectHash, Life>,
    /// Objects that nothing named at the last retention.
    unnamed: HashSet<ObjectHash>,
}

#[async_trait]
impl DecisionLog for MemoryDecisionLog {
    async fn append(&self, entries: Vec<DecisionEntry>, objects: Vec<(ObjectHash, Bytes)>) -> Result<(), StorageError> {
        decision_bytes(&entries, &objects)?;
        let names = entries
            .iter()
            .enumerate()
            .map(|(i, entry)| Names::read(i, &entry.record))
            .collect::<Result<Vec<_>, _>>()?;
        let mut state = self.0.lock();
        for (hash, content) in objects {
            state.lives.entry(hash).or_default();
            state.objects.entry(hash).or_insert(content);
        }
        for (entry, names) in entries.into_iter().zip(names) {
            if state.records.contains_key(&entry.request_id) {
                continue;
            }
            for name in names.as_slice() {
                state.lives.entry(*name).or_default().name(entry.request_id, entry.uid);
            }
            state.records.insert(entry.request_id, Some((entry, names)));
        }
        Ok(())
    }

    async fn get(&self, request_id: RequestId) -> Result<Decision, StorageError> {
        Ok(match self.0.lock().records.get(&request_id) {
            None => Decision::Unknown,
            Some(None) => Decision::Erased,
            Some(Some((entry, _))) => Decision::Found(entry.record.clone()),
        })
    }

    async fn object(&self, hash: ObjectHash) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.lock().objects.get(&hash).cloned())
    }

    async fn recent(&self, max: usize) -> Result<Vec<RequestId>, StorageError> {
        let state = self.0.lock();
        Ok(state.records.iter().rev().filter(|(_, r)| r.is_some()).take(max).map(|(id, _)| *id).collect())
    }

    async fn erase_user(&self, uid: Uid) -> Result<u64, StorageError> {
        let state = &mut *self.0.lock();
        let mut erased = 0;
        for slot in state.records.values_mut() {
            let Some((_, names)) = slot.take_if(|(entry, _)| entry.uid == uid) else { continue };
            erased += 1;
            for name in names.as_slice() {
                if state.lives.get(name).is_some_and(|life| life.is_only(uid)) {
                    state.lives.remove(name);
                    state.objects.remove(name);
                }
            }
        }
        Ok(erased)
    }

    async fn retain_from(&self, before: UnixMillis) -> Result<u64, StorageError> {
        let state = &mut *self.0.lock();
        let kept = state.records.split_off(&RequestId::new(before.clamp(0, (1 << 48) - 1), [0; 10]));
        let dropped = std::mem::replace(&mut state.records, kept).into_values().flatten().count();
        let unnamed = std::mem::take(&mut state.unnamed);
        let over = |hash: &ObjectHash, life: &Life| life.is_over(before) || unnamed.contains(hash) && !life.is_named();
        state.lives.retain(|hash, life| {
            let over = over(hash, life);
            if over {
                state.objects.remove(hash);
            } else if !life.is_named() {
                state.unnamed.insert(*hash);
            }
            !over
        });
        Ok(dropped as u64)
    }
}
