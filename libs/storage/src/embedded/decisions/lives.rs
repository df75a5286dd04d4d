//! The lives of objects as the writer knows them: what it used lately in memory, all of them in the engine.

use crate::life::Life;
use crate::{ObjectHash, StorageError};
use fjall::{Keyspace, OwnedWriteBatch};
use rustc_hash::FxHashMap;

/// Lives kept in each of two generations; 40 bytes one.
const GENERATION: usize = 1 << 17;

pub(super) struct Lives {
    stored: Keyspace,
    /// Used since the last turn. When it is full, the generation before it is forgotten.
    young: FxHashMap<ObjectHash, Life>,
    old: FxHashMap<ObjectHash, Life>,
    /// Differ from what is stored.
    changed: Vec<ObjectHash>,
}

impl Lives {
    pub(super) fn new(stored: Keyspace) -> Self {
        Self { stored, young: FxHashMap::default(), old: FxHashMap::default(), changed: Vec::new() }
    }

    pub(super) fn get(&mut self, hash: ObjectHash) -> Result<Life, StorageError> {
        if let Some(life) = self.young.get(&hash) {
            return Ok(*life);
        }
        let life = match self.old.remove(&hash) {
            Some(life) => life,
            None => match self.stored.get(hash.0)? {
                Some(bytes) => read(&bytes)?,
                None => Life::default(),
            },
        };
        self.young.insert(hash, life);
        Ok(life)
    }

    /// Changes a life, if `change` says that it did.
    pub(super) fn update(
        &mut self,
        hash: ObjectHash,
        change: impl FnOnce(&mut Life) -> bool,
    ) -> Result<bool, StorageError> {
        let mut life = self.get(hash)?;
        let changed = change(&mut life);
        if changed {
            self.young.insert(hash, life);
            self.changed.push(hash);
        }
        Ok(changed)
    }

    /// Takes a life away with a batch.
    pub(super) fn end(&mut self, batch: &mut OwnedWriteBatch, hash: ObjectHash) {
        self.young.insert(hash, Life::default());
        batch.remove(&self.stored, hash.0.as_slice());
    }

    /// Puts what changed into a batch. Generations turn only here, so what is yet to be stored is in memory.
    pub(super) fn save(&mut self, batch: &mut OwnedWriteBatch) {
        self.changed.sort_unstable();
        self.changed.dedup();
        for hash in self.changed.drain(..) {
            if let Some(life) = self.young.get(&hash) {
                batch.insert(&self.stored, hash.0.as_slice(), life.to_bytes().as_slice());
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

pub(super) fn read(bytes: &[u8]) -> Result<Life, StorageError> {
    Life::from_bytes(bytes).ok_or_else(|| StorageError::corrupt("life of an object"))
}
