//! The decision log: records by request id (which begins with the time), the same by visitor, objects by hash, and
//! who names which object (`hash || request id`), so that an object goes with its last record.

use super::writer::{Job, Reply, Writer};
use super::{Engine, REMOVE_STEP, blocking};
use crate::limits::decision_bytes;
use crate::references::named_objects;
use crate::{Decision, DecisionEntry, DecisionLog, ObjectHash, StorageError};
use async_trait::async_trait;
use attune_domain::{RequestId, Uid, UnixMillis};
use bytes::Bytes;
use fjall::{Keyspace, OwnedWriteBatch};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

const UID: usize = 17;
/// First byte of a stored record.
const LIVE: u8 = 1;
const ERASED: u8 = 0;

/// Durable decision log in a folder.
pub struct EmbeddedDecisionLog {
    writer: Writer<DecisionJob>,
    shared: Arc<Shared>,
}

struct Shared {
    records: Keyspace,
    by_uid: Keyspace,
    objects: Keyspace,
    names: Keyspace,
    /// Objects that nothing named at the last retention.
    unnamed: Mutex<HashSet<ObjectHash>>,
    engine: Engine,
}

/// A record to write, and the objects it names.
type Named = (DecisionEntry, Vec<ObjectHash>);

enum DecisionJob {
    Append {
        entries: Vec<Named>,
        objects: Vec<(ObjectHash, Bytes)>,
        bytes: usize,
        reply: Reply<()>,
    },
    Erase {
        uid: Uid,
        reply: Reply<u64>,
    },
    RetainFrom {
        before: UnixMillis,
        reply: Reply<u64>,
    },
}

impl Job for DecisionJob {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => *bytes,
            Self::Erase { .. } | Self::RetainFrom { .. } => 0,
        }
    }
}

impl EmbeddedDecisionLog {
    pub fn open(dir: &Path) -> Result<Self, StorageError> {
        let engine = Engine::open(dir)?;
        let shared = Arc::new(Shared {
            records: engine.keyspace("records")?,
            by_uid: engine.keyspace("by_uid")?,
            objects: engine.keyspace("objects")?,
            names: engine.keyspace("names")?,
            unnamed: Mutex::default(),
            engine,
        });
        let writing = shared.clone();
        let writer = Writer::start("decision-log", move |jobs| writing.write(jobs))?;
        Ok(Self { writer, shared })
    }
}

#[async_trait]
impl DecisionLog for EmbeddedDecisionLog {
    async fn append(
        &self,
        entries: Vec<DecisionEntry>,
        objects: Vec<(ObjectHash, Bytes)>,
    ) -> Result<(), StorageError> {
        let bytes = decision_bytes(&entries, &objects)?;
        let entries = entries
            .into_iter()
            .enumerate()
            .map(|(i, entry)| {
                Ok((named_objects(i, entry.record.clone())?, entry)).map(|(names, entry)| (entry, names))
            })
            .collect::<Result<Vec<_>, StorageError>>()?;
        if entries.is_empty() && objects.is_empty() {
            return Ok(());
        }
        self.writer.ask(|reply| DecisionJob::Append { entries, objects, bytes, reply }).await
    }

    async fn get(&self, request_id: RequestId) -> Result<Decision, StorageError> {
        let shared = self.shared.clone();
        blocking(move || {
            Ok(match shared.records.get(request_id.0)? {
                None => Decision::Unknown,
                Some(stored) => match live(&stored)? {
                    Some((_, record)) => Decision::Found(Bytes::copy_from_slice(record)),
                    None => Decision::Erased,
                },
            })
        })
        .await
    }

    async fn object(&self, hash: ObjectHash) -> Result<Option<Bytes>, StorageError> {
        let shared = self.shared.clone();
        blocking(move || {
            Ok(shared.objects.get(hash.0)?.map(|content| Bytes::copy_from_slice(&content)))
        })
        .await
    }

    async fn recent(&self, max: usize) -> Result<Vec<RequestId>, StorageError> {
        let shared = self.shared.clone();
        blocking(move || {
            let mut found = Vec::new();
            for guard in shared.records.iter().rev() {
                if found.len() >= max {
                    break;
                }
                let (key, stored) = guard.into_inner()?;
                if live(&stored)?.is_some() {
                    found.push(request(&key)?);
                }
            }
            Ok(found)
        })
        .await
    }

    async fn erase_user(&self, uid: Uid) -> Result<u64, StorageError> {
        self.writer.ask(|reply| DecisionJob::Erase { uid, reply }).await
    }

    async fn retain_from(&self, before: UnixMillis) -> Result<u64, StorageError> {
        self.writer.ask(|reply| DecisionJob::RetainFrom { before, reply }).await
    }
}

impl Shared {
    /// Appends that stand next to each other share a commit; the rest keeps its place among them.
    fn write(&self, jobs: Vec<DecisionJob>) {
        let mut waiting = Vec::new();
        let mut batch = self.engine.batch();
        let mut staged = HashSet::new();
        for job in jobs {
            match job {
                DecisionJob::Append { entries, objects, reply, .. } => {
                    match self.stage(&mut batch, &mut staged, entries, objects) {
                        Ok(()) => waiting.push(reply),
                        Err(e) => drop(reply.send(Err(e))),
                    }
                }
                DecisionJob::Erase { uid, reply } => {
                    settle(&mut waiting, std::mem::replace(&mut batch, self.engine.batch()));
                    drop(reply.send(self.erase(uid)));
                }
                DecisionJob::RetainFrom { before, reply } => {
                    settle(&mut waiting, std::mem::replace(&mut batch, self.engine.batch()));
                    drop(reply.send(self.retain(before)));
                }
            }
        }
        settle(&mut waiting, batch);
    }

    /// A record that is there, or was erased, stays as it is: a late writer brings nothing back.
    fn stage(
        &self,
        batch: &mut OwnedWriteBatch,
        staged: &mut HashSet<RequestId>,
        entries: Vec<Named>,
        objects: Vec<(ObjectHash, Bytes)>,
    ) -> Result<(), StorageError> {
        let mut fresh = Vec::with_capacity(objects.len());
        for (hash, content) in objects {
            if !self.objects.contains_key(hash.0)? {
                fresh.push((hash, content));
            }
        }
        let mut new = Vec::with_capacity(entries.len());
        for (entry, names) in entries {
            if !self.records.contains_key(entry.request_id.0)? && staged.insert(entry.request_id) {
                new.push((entry, names));
            }
        }
        for (hash, content) in fresh {
            batch.insert(&self.objects, hash.0.as_slice(), content.as_ref());
        }
        for (entry, names) in new {
            let id = entry.request_id.0;
            let mut stored = Vec::with_capacity(1 + UID + entry.record.len());
            stored.push(LIVE);
            stored.extend_from_slice(&entry.uid.0);
            stored.extend_from_slice(&entry.record);
            batch.insert(&self.records, id.as_slice(), stored);
            batch.insert(&self.by_uid, [entry.uid.0.as_slice(), &id].concat(), [].as_slice());
            for name in names {
                batch.insert(&self.names, [name.0, id].concat(), [].as_slice());
            }
        }
        Ok(())
    }

    fn erase(&self, uid: Uid) -> Result<u64, StorageError> {
        let mut erased = 0;
        loop {
            let ids = self
                .by_uid
                .prefix(uid.0)
                .take(REMOVE_STEP)
                .map(|guard| request(&guard.key()?[UID..]))
                .collect::<Result<Vec<_>, StorageError>>()?;
            if ids.is_empty() {
                return Ok(erased);
            }
            erased += ids.len() as u64;
            self.remove(&ids, |batch, id| {
                batch.remove(&self.by_uid, [uid.0.as_slice(), &id.0].concat());
                batch.insert(&self.records, id.0.as_slice(), [ERASED].as_slice());
            })?;
        }
    }

    fn retain(&self, before: UnixMillis) -> Result<u64, StorageError> {
        let mut dropped = 0;
        let end = RequestId::new(before.clamp(0, (1 << 48) - 1), [0; 10]);
        loop {
            let mut ids = Vec::new();
            for guard in self.records.range(..end.0).take(REMOVE_STEP) {
                let (key, stored) = guard.into_inner()?;
                dropped += u64::from(live(&stored)?.is_some());
                ids.push(request(&key)?);
            }
            if ids.is_empty() {
                break;
            }
            self.remove(&ids, |batch, id| batch.remove(&self.records, id.0.as_slice()))?;
        }
        self.sweep()?;
        Ok(dropped)
    }

    /// Takes records away durably, with what only they name; `replace` says what becomes of the record itself.
    fn remove(
        &self,
        ids: &[RequestId],
        replace: impl Fn(&mut OwnedWriteBatch, RequestId),
    ) -> Result<(), StorageError> {
        let mut batch = self.engine.batch();
        let mut going: HashSet<[u8; 32]> = HashSet::new();
        let mut touched = HashSet::new();
        for &id in ids {
            if let Some(stored) = self.records.get(id.0)?
                && let Some((uid, record)) = live(&stored)?
            {
                batch.remove(&self.by_uid, [uid.0.as_slice(), &id.0].concat());
                for name in named_objects(0, Bytes::copy_from_slice(record))
                    .map_err(|_| StorageError::corrupt("decision record"))?
                {
                    let key = named(name, id);
                    batch.remove(&self.names, key.as_slice());
                    going.insert(key);
                    touched.insert(name);
                }
            }
            replace(&mut batch, id);
        }
        for name in touched {
            let mut last = true;
            for guard in self.names.prefix(name.0) {
                let key = guard.key()?;
                last = <[u8; 32]>::try_from(&key[..]).is_ok_and(|key| going.contains(&key));
                if !last {
                    break;
                }
            }
            if last {
                batch.remove(&self.objects, name.0.as_slice());
            }
        }
        Ok(batch.commit()?)
    }

    /// Removes objects that nothing names, the second time they are found so: their records may be on the way.
    fn sweep(&self) -> Result<(), StorageError> {
        let mut found = HashSet::new();
        let mut batch = self.engine.batch();
        let mut before = self.unnamed.lock();
        for guard in self.objects.iter() {
            let key = guard.key()?;
            let hash =
                ObjectHash::from_slice(&key).ok_or_else(|| StorageError::corrupt("object name"))?;
            if self.names.prefix(hash.0).next().is_some() {
                continue;
            }
            if before.contains(&hash) {
                batch.remove(&self.objects, key);
            } else {
                found.insert(hash);
            }
        }
        batch.commit()?;
        *before = found;
        Ok(())
    }
}

/// Commits and answers everybody in it.
fn settle(waiting: &mut Vec<Reply<()>>, batch: OwnedWriteBatch) {
    let done = batch.commit().map_err(StorageError::from);
    for reply in waiting.drain(..) {
        drop(reply.send(done.clone()));
    }
}

/// Whose record it is and its bytes; nothing where it was erased.
fn live(stored: &[u8]) -> Result<Option<(Uid, &[u8])>, StorageError> {
    match stored.split_first() {
        Some((&ERASED, _)) => Ok(None),
        Some((&LIVE, rest)) if rest.len() >= UID => {
            let (uid, record) = rest.split_at(UID);
            Ok(Uid::from_slice(uid).map(|uid| (uid, record)))
        }
        _ => Err(StorageError::corrupt("decision record")),
    }
}

fn named(name: ObjectHash, id: RequestId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&name.0);
    key[16..].copy_from_slice(&id.0);
    key
}

fn request(bytes: &[u8]) -> Result<RequestId, StorageError> {
    RequestId::from_slice(bytes)
        .ok_or_else(|| StorageError::corrupt("request id in the decision log"))
}
