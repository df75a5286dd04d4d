//! The decision log: blocks of records in time order, their heads, objects, and the objects' lives by hash.
//!
//! A commit writes two keys a block instead of several a record. `heads` is what is searched: a lookup reads the heads
//! of the request's slot and then blocks that have its mark; an erasure reads all heads (eight bytes a record) and
//! then the visitor's blocks. Whatever is rewritten or removed leaves the engine's files when it next compacts them.

mod block;
mod lives;
mod writing;

use super::writer::{Job, Reply, Writer};
use super::{Engine, REMOVE_STEP, blocking};
use crate::limits::decision_bytes;
use crate::references::Names;
use crate::{Decision, DecisionEntry, DecisionLog, ObjectHash, StorageError};
use async_trait::async_trait;
use attune_domain::{RequestId, Uid, UnixMillis};
use block::Block;
use bytes::Bytes;
use fjall::{Keyspace, KeyspaceCreateOptions, UserKey};
use lives::Known;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use writing::Writing;

/// What is read is mostly old, and seldom twice.
const CACHE_BYTES: u64 = 16 << 20;
/// Of blocks and objects, and of what describes them; one more of each may be on its way to the disk.
const LARGE_MEMTABLE_BYTES: u64 = 6 << 20;
const SMALL_MEMTABLE_BYTES: u64 = 2 << 20;
/// Blocks rewritten by one commit of an erasure.
const ERASE_STEP: usize = 64;

/// Durable decision log in a folder.
pub struct EmbeddedDecisionLog {
    writer: Writer<DecisionJob>,
    shared: Arc<Shared>,
}

struct Shared {
    blocks: Keyspace,
    heads: Keyspace,
    objects: Keyspace,
    lives: Keyspace,
    /// Objects that nothing named at the last retention.
    unnamed: Mutex<HashSet<ObjectHash>>,
    engine: Engine,
}

enum DecisionJob {
    Append {
        entries: Vec<(DecisionEntry, Names)>,
        objects: Vec<(ObjectHash, Bytes)>,
        bytes: usize,
        reply: Reply<()>,
    },
    /// Answers when everything before it is written.
    Flush {
        reply: Reply<()>,
    },
    Erase {
        uid: Uid,
        blocks: Vec<UserKey>,
        reply: Reply<u64>,
    },
    RetainFrom {
        before: UnixMillis,
        reply: Reply<u64>,
    },
    EndObjects {
        before: UnixMillis,
        objects: Vec<ObjectHash>,
        reply: Reply<()>,
    },
}

impl Job for DecisionJob {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => *bytes,
            _ => 0,
        }
    }
}

impl EmbeddedDecisionLog {
    pub fn open(dir: &Path) -> Result<Self, StorageError> {
        let engine = Engine::open(dir, CACHE_BYTES)?;
        let keyspace = |name, memtable_bytes| {
            let options = KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes);
            engine.keyspace_with(name, options)
        };
        let shared = Arc::new(Shared {
            blocks: keyspace("blocks", LARGE_MEMTABLE_BYTES)?,
            heads: keyspace("heads", SMALL_MEMTABLE_BYTES)?,
            objects: keyspace("objects", LARGE_MEMTABLE_BYTES)?,
            lives: keyspace("lives", SMALL_MEMTABLE_BYTES)?,
            unnamed: Mutex::default(),
            engine,
        });
        let mut writing = Writing::new(shared.clone())?;
        let writer = Writer::start("decision-log", super::give_way, move |jobs| writing.write(jobs))?;
        Ok(Self { writer, shared })
    }
}

#[async_trait]
impl DecisionLog for EmbeddedDecisionLog {
    async fn append(&self, entries: Vec<DecisionEntry>, objects: Vec<(ObjectHash, Bytes)>) -> Result<(), StorageError> {
        let bytes = decision_bytes(&entries, &objects)?;
        if entries.is_empty() && objects.is_empty() {
            return Ok(());
        }
        let entries = entries
            .into_iter()
            .enumerate()
            .map(|(i, entry)| Names::read(i, &entry.record).map(|names| (entry, names)))
            .collect::<Result<Vec<_>, StorageError>>()?;
        self.writer.ask(|reply| DecisionJob::Append { entries, objects, bytes, reply }).await
    }

    async fn get(&self, request_id: RequestId) -> Result<Decision, StorageError> {
        let shared = self.shared.clone();
        blocking(move || shared.get(request_id)).await
    }

    async fn object(&self, hash: ObjectHash) -> Result<Option<Bytes>, StorageError> {
        let shared = self.shared.clone();
        blocking(move || {
            let Some(known) = shared.lives.get(hash.0)? else { return Ok(None) };
            let content = shared.objects.get(Known::read(&known)?.number.to_be_bytes())?;
            Ok(content.map(|content| Bytes::copy_from_slice(&content)))
        })
        .await
    }

    async fn recent(&self, max: usize) -> Result<Vec<RequestId>, StorageError> {
        let shared = self.shared.clone();
        blocking(move || shared.recent(max)).await
    }

    async fn erase_user(&self, uid: Uid) -> Result<u64, StorageError> {
        // The search does not hold up the writer; what was handed in before is part of it.
        self.writer.ask(|reply| DecisionJob::Flush { reply }).await?;
        let (mut erased, mut after) = (0, None);
        loop {
            let shared = self.shared.clone();
            let blocks = blocking(move || shared.blocks_of(uid, after)).await?;
            let Some(last) = blocks.last() else { return Ok(erased) };
            after = Some(last.clone());
            erased += self.writer.ask(|reply| DecisionJob::Erase { uid, blocks, reply }).await?;
        }
    }

    async fn retain_from(&self, before: UnixMillis) -> Result<u64, StorageError> {
        let dropped = self.writer.ask(|reply| DecisionJob::RetainFrom { before, reply }).await?;
        let mut unnamed = HashSet::new();
        let mut after = None;
        loop {
            let shared = self.shared.clone();
            let found = blocking(move || shared.ending(before, after)).await?;
            unnamed.extend(found.unnamed);
            if !found.ending.is_empty() {
                let objects = found.ending;
                self.writer.ask(|reply| DecisionJob::EndObjects { before, objects, reply }).await?;
            }
            after = found.last;
            if after.is_none() {
                break;
            }
        }
        *self.shared.unnamed.lock() = unnamed;
        Ok(dropped)
    }
}

/// A step of the walk over all objects.
#[derive(Default)]
struct Ending {
    ending: Vec<ObjectHash>,
    /// Not named, for the first time.
    unnamed: Vec<ObjectHash>,
    /// Where the next step begins; none after the last.
    last: Option<UserKey>,
}

impl Shared {
    fn get(&self, id: RequestId) -> Result<Decision, StorageError> {
        let mark = block::id_mark(id);
        for guard in self.heads.prefix(block::slot_of(id).to_be_bytes()) {
            let (key, head) = guard.into_inner()?;
            if !block::marks(&head).any(|(found, _)| found == mark) {
                continue;
            }
            let Some(stored) = self.blocks.get(&key)? else { continue };
            if let Some(entry) = Block::read(&stored)?.find(id)? {
                return Ok(entry.record().map_or(Decision::Erased, |r| Decision::Found(r.into())));
            }
        }
        Ok(Decision::Unknown)
    }

    fn recent(&self, max: usize) -> Result<Vec<RequestId>, StorageError> {
        let mut found = Vec::new();
        // Slots are in order; within one, blocks may interleave.
        let (mut slot, mut ids) = (u64::MAX, Vec::new());
        let take = |found: &mut Vec<RequestId>, ids: &mut Vec<RequestId>| {
            ids.sort_unstable_by(|a, b| b.cmp(a));
            found.extend(ids.drain(..).take(max - found.len()));
            found.len() == max
        };
        for guard in self.blocks.iter().rev() {
            let (key, stored) = guard.into_inner()?;
            let (of, _) = block::key_parts(&key)?;
            if of != slot && take(&mut found, &mut ids) {
                return Ok(found);
            }
            slot = of;
            for entry in Block::read(&stored)?.entries() {
                let entry = entry?;
                ids.extend(entry.live.map(|_| entry.id));
            }
        }
        take(&mut found, &mut ids);
        Ok(found)
    }

    /// Some of the blocks that may hold records of the visitor.
    fn blocks_of(&self, uid: Uid, after: Option<UserKey>) -> Result<Vec<UserKey>, StorageError> {
        let mark = block::visitor_mark(uid);
        let mut found = Vec::new();
        for guard in self.heads.range((beyond(after), Bound::Unbounded)) {
            let (key, head) = guard.into_inner()?;
            if block::marks(&head).any(|(_, visitor)| visitor == mark) {
                found.push(key);
                if found.len() == ERASE_STEP {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Objects whose time is over, or that were not named at the last retention and still are not.
    fn ending(&self, before: UnixMillis, after: Option<UserKey>) -> Result<Ending, StorageError> {
        let unnamed = self.unnamed.lock();
        let mut step = Ending::default();
        for guard in self.lives.range((beyond(after), Bound::Unbounded)) {
            let (key, life) = guard.into_inner()?;
            let hash = ObjectHash::from_slice(&key).ok_or_else(|| StorageError::corrupt("object name"))?;
            let life = Known::read(&life)?.life;
            if life.is_over(before) || unnamed.contains(&hash) && !life.is_named() {
                step.ending.push(hash);
            } else if !life.is_named() {
                step.unnamed.push(hash);
            }
            if step.ending.len() == REMOVE_STEP {
                step.last = Some(key);
                break;
            }
        }
        Ok(step)
    }
}

fn beyond(after: Option<UserKey>) -> Bound<UserKey> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}
