//! Decision records as a map in time order.

use crate::limits::decision_bytes;
use crate::references::named_objects;
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
    records: BTreeMap<RequestId, Option<(DecisionEntry, Vec<ObjectHash>)>>,
    objects: HashMap<ObjectHash, Bytes>,
    named: HashMap<ObjectHash, u64>,
    /// Objects that nothing named at the last retention.
    unnamed: HashSet<ObjectHash>,
}

impl State {
    fn release(&mut self, names: &[ObjectHash]) {
        for name in names {
            let Some(count) = self.named.get_mut(name) else { continue };
            *count -= 1;
            if *count == 0 {
                self.named.remove(name);
                self.objects.remove(name);
            }
        }
    }
}

#[async_trait]
impl DecisionLog for MemoryDecisionLog {
    async fn append(
        &self,
        entries: Vec<DecisionEntry>,
        objects: Vec<(ObjectHash, Bytes)>,
    ) -> Result<(), StorageError> {
        decision_bytes(&entries, &objects)?;
        let names = entries
            .iter()
            .enumerate()
            .map(|(i, entry)| named_objects(i, entry.record.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut state = self.0.lock();
        for (hash, content) in objects {
            state.objects.entry(hash).or_insert(content);
        }
        for (entry, names) in entries.into_iter().zip(names) {
            if state.records.contains_key(&entry.request_id) {
                continue;
            }
            for name in &names {
                *state.named.entry(*name).or_default() += 1;
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
        Ok(state
            .records
            .iter()
            .rev()
            .filter(|(_, r)| r.is_some())
            .take(max)
            .map(|(id, _)| *id)
            .collect())
    }

    async fn erase_user(&self, uid: Uid) -> Result<u64, StorageError> {
        let mut state = self.0.lock();
        let erased: Vec<_> = state
            .records
            .values_mut()
            .filter_map(|slot| slot.take_if(|(entry, _)| entry.uid == uid))
            .collect();
        erased.iter().for_each(|(_, names)| state.release(names));
        Ok(erased.len() as u64)
    }

    async fn retain_from(&self, before: UnixMillis) -> Result<u64, StorageError> {
        let mut state = self.0.lock();
        let kept =
            state.records.split_off(&RequestId::new(before.clamp(0, (1 << 48) - 1), [0; 10]));
        let dropped = std::mem::replace(&mut state.records, kept);
        let mut count = 0;
        for (_, names) in dropped.into_values().flatten() {
            state.release(&names);
            count += 1;
        }
        let found: HashSet<_> =
            state.objects.keys().filter(|hash| !state.named.contains_key(hash)).copied().collect();
        for hash in found.intersection(&std::mem::take(&mut state.unnamed)) {
            state.objects.remove(hash);
        }
        state.unnamed = found;
        Ok(count)
    }
}
