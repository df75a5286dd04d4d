//! What the writer's thread does: fills blocks, keeps the lives of objects, rewrites blocks when records go.

use super::block::{self, Block, Builder};
use super::lives::{Known, Lives};
use super::{DecisionJob, Shared};
use crate::embedded::REMOVE_STEP;
use crate::embedded::writer::Reply;
use crate::references::Names;
use crate::{DecisionEntry, ObjectHash, StorageError};
use attune_domain::{RequestId, Uid, UnixMillis};
use bytes::Bytes;
use fjall::{OwnedWriteBatch, UserKey};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Records whose marks are kept to tell new ones from repeated ones; 5 to 10 bytes one.
const KNOWN_MARKS: usize = 1 << 19;
const KNOWN_SLOTS: usize = 1_024;

pub(super) struct Writing {
    shared: Arc<Shared>,
    /// Slots as they are in the engine and in what is staged; loaded when a record comes, the oldest forgotten first.
    slots: BTreeMap<u64, Slot>,
    lives: Lives,
    next_object: u64,
    staged: Staged,
}

#[derive(Default)]
struct Slot {
    /// Of every record in the slot. A record whose mark is not among them is new.
    marks: FxHashSet<u32>,
    /// Number of the slot's next block.
    next: u32,
}

/// What the next commit brings.
#[derive(Default)]
struct Staged {
    blocks: FxHashMap<u64, Builder>,
    /// All request ids of slots in which a mark was met again.
    exact: FxHashMap<u64, FxHashSet<RequestId>>,
    full: Vec<(u64, Builder)>,
    objects: Vec<(u64, Bytes)>,
    waiting: Vec<Reply<()>>,
    failed: Option<StorageError>,
}

impl Writing {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, StorageError> {
        let last = shared.objects.last_key_value().map(fjall::Guard::key).transpose()?;
        let next_object = match last {
            None => 1,
            Some(key) => 1 + object_number(&key)?,
        };
        let lives = Lives::new(shared.lives.clone());
        Ok(Self { shared, slots: BTreeMap::new(), lives, next_object, staged: Staged::default() })
    }

    /// Appends that stand next to each other share a commit; the rest keeps its place among them.
    pub(super) fn write(&mut self, jobs: Vec<DecisionJob>) {
        for job in jobs {
            if let DecisionJob::Append { entries, objects, reply, .. } = job {
                self.staged.waiting.push(reply);
                if self.staged.failed.is_none() {
                    self.staged.failed = self.stage(entries, objects).err();
                }
                continue;
            }
            self.settle();
            match job {
                DecisionJob::Append { .. } => {}
                DecisionJob::Flush { reply } => drop(reply.send(Ok(()))),
                DecisionJob::Erase { uid, blocks, reply } => {
                    let done = self.erase(uid, &blocks);
                    self.answer(reply, done);
                }
                DecisionJob::RetainFrom { before, reply } => {
                    let done = self.retain(before);
                    self.answer(reply, done);
                }
                DecisionJob::EndObjects { before, objects, reply } => {
                    let done = self.end_objects(before, &objects);
                    self.answer(reply, done);
                }
            }
        }
        self.settle();
    }

    /// A record that is there, or was erased, stays as it is: a late writer brings nothing back.
    fn stage(
        &mut self,
        entries: Vec<(DecisionEntry, Names)>,
        objects: Vec<(ObjectHash, Bytes)>,
    ) -> Result<(), StorageError> {
        for (hash, content) in objects {
            let number = self.next_object;
            let fresh = self.lives.update(hash, |known| {
                let fresh = known.number == 0;
                if fresh {
                    known.number = number;
                }
                fresh
            })?;
            if fresh {
                self.staged.objects.push((number, content));
                self.next_object += 1;
            }
        }
        for (entry, names) in entries {
            if !self.is_new(entry.request_id)? {
                continue;
            }
            for &name in names.as_slice() {
                self.lives.update(name, |known| known.life.name(entry.request_id, entry.uid))?;
            }
            let slot = block::slot_of(entry.request_id);
            let builder = self.staged.blocks.entry(slot).or_default();
            builder.push(entry.request_id, entry.uid, &entry.record);
            if builder.is_full() {
                self.staged.full.push((slot, std::mem::take(builder)));
            }
        }
        Ok(())
    }

    fn is_new(&mut self, id: RequestId) -> Result<bool, StorageError> {
        let number = block::slot_of(id);
        let met = !slot(&mut self.slots, &self.shared, number)?.marks.insert(block::id_mark(id));
        if let Some(exact) = self.staged.exact.get_mut(&number) {
            return Ok(exact.insert(id));
        }
        if met {
            let mut exact = self.shared.ids(number)?;
            exact.extend(self.staged.ids(number));
            let new = exact.insert(id);
            self.staged.exact.insert(number, exact);
            return Ok(new);
        }
        Ok(true)
    }

    /// Commits what is staged and answers everybody in it.
    fn settle(&mut self) {
        let mut staged = std::mem::take(&mut self.staged);
        let done = match staged.failed.take() {
            Some(error) => Err(error),
            None => self.commit(&mut staged),
        };
        if done.is_err() {
            self.forget();
        }
        for reply in staged.waiting {
            drop(reply.send(done.clone()));
        }
    }

    fn answer<T>(&mut self, reply: Reply<T>, done: Result<T, StorageError>) {
        if done.is_err() {
            self.forget();
        }
        drop(reply.send(done));
    }

    /// After a batch that failed, only the engine knows what is there.
    fn forget(&mut self) {
        self.slots.clear();
        self.lives.forget();
    }

    fn commit(&mut self, staged: &mut Staged) -> Result<(), StorageError> {
        let shared = &self.shared;
        let mut batch = shared.engine.batch();
        let partial = staged.blocks.drain().filter(|(_, builder)| !builder.is_empty());
        for (number, builder) in staged.full.drain(..).chain(partial) {
            let slot = slot(&mut self.slots, shared, number)?;
            let key = block::key(number, slot.next);
            slot.next += 1;
            shared.put(&mut batch, key.as_slice().into(), builder);
        }
        for (number, content) in staged.objects.drain(..) {
            batch.insert(&shared.objects, number.to_be_bytes().as_slice(), content.as_ref());
        }
        self.lives.save(&mut batch);
        shared.engine.commit(batch)?;
        let mut marks: usize = self.slots.values().map(|slot| slot.marks.len()).sum();
        while marks > KNOWN_MARKS || self.slots.len() > KNOWN_SLOTS {
            let Some((_, oldest)) = self.slots.pop_first() else { break };
            marks -= oldest.marks.len();
        }
        Ok(())
    }

    /// Rewrites those of `blocks` that hold records of the visitor, with what only these name.
    fn erase(&mut self, uid: Uid, blocks: &[UserKey]) -> Result<u64, StorageError> {
        let shared = Arc::clone(&self.shared);
        let mut batch = shared.engine.batch();
        let mut erased = 0;
        for key in blocks {
            let Some(stored) = shared.blocks.get(key)? else { continue };
            let mut builder = Builder::default();
            let before = erased;
            for entry in Block::read(&stored)?.entries() {
                let mut entry = entry?;
                if entry.live.is_some_and(|(owner, _)| owner == uid) {
                    self.end_only(&mut batch, uid, &entry.record().unwrap_or_default())?;
                    entry.live = None;
                    erased += 1;
                }
                builder.push_entry(entry);
            }
            if erased > before {
                shared.put(&mut batch, key.clone(), builder);
            }
        }
        shared.engine.commit(batch)?;
        Ok(erased)
    }

    /// Takes away the objects of a record that were only ever named by this visitor's.
    fn end_only(&mut self, batch: &mut OwnedWriteBatch, uid: Uid, record: &[u8]) -> Result<(), StorageError> {
        let names = Names::read(0, record).map_err(|_| StorageError::corrupt("decision record"))?;
        for &name in names.as_slice() {
            let known = self.lives.get(name)?;
            if known.life.is_only(uid) {
                self.end_object(batch, name, known);
            }
        }
        Ok(())
    }

    fn retain(&mut self, before: UnixMillis) -> Result<u64, StorageError> {
        let shared = Arc::clone(&self.shared);
        let before = before.clamp(0, (1 << 48) - 1);
        let edge = block::slot_at(before);
        self.slots = self.slots.split_off(&(edge + 1));
        let mut dropped = 0;
        loop {
            let mut batch = shared.engine.batch();
            for guard in shared.heads.range(..block::key(edge, 0)).take(REMOVE_STEP) {
                let (key, head) = guard.into_inner()?;
                dropped += block::marks(&head).filter(|(_, visitor)| *visitor != 0).count() as u64;
                batch.remove(&shared.heads, key.clone());
                batch.remove(&shared.blocks, key);
            }
            if batch.is_empty() {
                break;
            }
            shared.engine.commit(batch)?;
        }
        let mut batch = shared.engine.batch();
        for guard in shared.heads.prefix(edge.to_be_bytes()) {
            let key = guard.key()?;
            let Some(stored) = shared.blocks.get(&key)? else { continue };
            let mut builder = Builder::default();
            let mut changed = false;
            for entry in Block::read(&stored)?.entries() {
                let entry = entry?;
                if entry.id.unix_millis() < before {
                    changed = true;
                    dropped += u64::from(entry.live.is_some());
                } else {
                    builder.push_entry(entry);
                }
            }
            if builder.is_empty() {
                batch.remove(&shared.heads, key.clone());
                batch.remove(&shared.blocks, key);
            } else if changed {
                shared.put(&mut batch, key, builder);
            }
        }
        shared.engine.commit(batch)?;
        Ok(dropped)
    }

    /// Takes away those objects whose time is over or that nothing named yet.
    fn end_objects(&mut self, before: UnixMillis, objects: &[ObjectHash]) -> Result<(), StorageError> {
        let mut batch = self.shared.engine.batch();
        for &hash in objects {
            let known = self.lives.get(hash)?;
            if known.life.is_over(before) || !known.life.is_named() {
                self.end_object(&mut batch, hash, known);
            }
        }
        self.shared.engine.commit(batch)
    }

    fn end_object(&mut self, batch: &mut OwnedWriteBatch, hash: ObjectHash, known: Known) {
        if known.number != 0 {
            batch.remove(&self.shared.objects, known.number.to_be_bytes().as_slice());
        }
        self.lives.end(batch, hash);
    }
}

fn object_number(key: &[u8]) -> Result<u64, StorageError> {
    let number = key.try_into().map_err(|_| StorageError::corrupt("number of an object"))?;
    Ok(u64::from_be_bytes(number))
}

/// A slot, loaded where it is not known.
fn slot<'a>(known: &'a mut BTreeMap<u64, Slot>, shared: &Shared, number: u64) -> Result<&'a mut Slot, StorageError> {
    Ok(match known.entry(number) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(free) => free.insert(shared.slot(number)?),
    })
}

impl Staged {
    fn ids(&self, slot: u64) -> impl Iterator<Item = RequestId> {
        let full = self.full.iter().filter(move |(of, _)| *of == slot).map(|(_, builder)| builder);
        self.blocks.get(&slot).into_iter().chain(full).flat_map(Builder::ids)
    }
}

impl Shared {
    /// What the engine knows of a slot.
    fn slot(&self, number: u64) -> Result<Slot, StorageError> {
        let mut slot = Slot::default();
        for guard in self.heads.prefix(number.to_be_bytes()) {
            let (key, head) = guard.into_inner()?;
            slot.next = block::key_parts(&key)?.1 + 1;
            slot.marks.extend(block::marks(&head).map(|(id, _)| id));
        }
        Ok(slot)
    }

    fn ids(&self, slot: u64) -> Result<FxHashSet<RequestId>, StorageError> {
        let mut ids = FxHashSet::default();
        for guard in self.blocks.prefix(slot.to_be_bytes()) {
            ids.extend(Block::read(&guard.value()?)?.ids());
        }
        Ok(ids)
    }

    fn put(&self, batch: &mut OwnedWriteBatch, key: UserKey, builder: Builder) {
        let (head, block) = builder.finish();
        batch.insert(&self.heads, key.clone(), head);
        batch.insert(&self.blocks, key, block);
    }
}
