//! The lives of objects as the writer knows them: what it used lately in memory, all of them in the engine.
//!
//! Objects themselves are numbered as they come and kept by number: names are random, and keeping large values in their
//! order would have the engine sort them again and again.

use crate::life::Life;
use crate::{ObjectHash, StorageError};
use fjall::{Keyspace, OwnedWriteBatch};
use rustc_hash::FxHashMap;

/// Lives kept in each of two generations, 6 MB each.
const GENERATION: usize = 7 << 14;

/// An object's life, and where its content is.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Known {
    pub(super) life: Life,
    /// 0 until its content comes: a record may name it before.
    pub(super) number: u64,
}

pub(super) struct Lives {
    stored: Keyspace,
    /// Used since the last turn. When it is full, the generation before it is forgotten.
    young: FxHashMap<ObjectHash, Known>,
    old: FxHashMap<ObjectHash, Known>,
    /// Differ from what is stored.
    changed: Vec<ObjectHash>,
}

impl Lives {
    pub(super) fn new(stored: Keyspace) -> Self {
        Self { stored, young: FxHashMap::default(), old: FxHashMap::default(), changed: Vec::new() }
    }

    pub(super) fn get(&mut self, hash: ObjectHash) -> Result<Known, StorageError> {
        if let Some(known) = self.young.get(&hash) {
            return Ok(*known);
        }
        let known = match self.old.remove(&hash) {
            Some(known) => known,
            None => match self.stored.get(hash.0)? {
                Some(bytes) => Known::read(&bytes)?,
                None => Known::default(),
            },
        };
        self.young.insert(hash, known);
        Ok(known)
    }

    /// Changes a life, if `change` says that it did.
    pub(super) fn update(
        &mut self,
        hash: ObjectHash,
        change: impl FnOnce(&mut Known) -> bool,
    ) -> Result<bool, StorageError> {
        let mut known = self.get(hash)?;
        let changed = change(&mut known);
        if changed {
            self.young.insert(hash, known);
            self.changed.push(hash);
        }
        Ok(changed)
    }

    /// Takes a life away with a batch.
    pub(super) fn end(&mut self, batch: &mut OwnedWriteBatch, hash: ObjectHash) {
        self.young.insert(hash, Known::default());
        batch.remove(&self.stored, hash.0.as_slice());
    }

    /// Puts what changed into a batch. Generations turn only here, so what is yet to be stored is in memory.
    pub(super) fn save(&mut self, batch: &mut OwnedWriteBatch) {
        self.changed.sort_unstable();
        self.changed.dedup();
        for hash in self.changed.drain(..) {
            if let Some(known) = self.young.get(&hash) {
                batch.insert(&self.stored, hash.0.as_slice(), known.to_bytes().as_slice());
            }
        }
        if self.young.len() >= GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
    }

    /// What was changed and not saved is lost; the engine has the rest.
    pub(super) fn forget(&mut self) {
        self.young.clear();
        self.old.clear();
        self.changed.clear();
    }
}

impl Known {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, StorageError> {
        let read = || {
            let (number, life) = bytes.split_first_chunk()?;
            Some(Self { number: u64::from_le_bytes(*number), life: Life::from_bytes(life)? })
        };
        read().ok_or_else(|| StorageError::corrupt("life of an object"))
    }

    fn to_bytes(self) -> [u8; 8 + Life::BYTES] {
        let mut bytes = [0; 8 + Life::BYTES];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&self.life.to_bytes());
        bytes
    }
}
