//! Records under one key.
//!
//! A block holds records of one slot of time (256 ms of their request ids), so a record is looked for among the
//! blocks of its own slot only, however late it came. It has two values under the same key: the block itself, and its
//! *head*, eight bytes a record in the same order, which says whether a request id or a visitor may be in it.
//!
//! Block: the records' bodies, then a directory of fixed entries, then their count.

use crate::StorageError;
use attune_domain::{RequestId, Uid};

const SLOT_BITS: u32 = 8;
/// A block is closed when it is larger. What a lookup reads is about this much.
const BLOCK_BYTES: usize = 64 << 10;
const UID: usize = 17;
/// Request id, visitor, kind, end of the body.
const ENTRY: usize = 16 + UID + 1 + 4;

const ERASED: u8 = 0;
const WHOLE: u8 = 1;
/// The record begins as `opening` says, and the body with what follows.
const REST: u8 = 2;
const OPENING: usize = 2 + 16 + 2 + UID;

pub(super) const KEY: usize = 12;

/// Number of the slot that a request belongs to.
pub(super) fn slot_of(id: RequestId) -> u64 {
    id.unix_millis() as u64 >> SLOT_BITS
}

pub(super) fn slot_at(millis: i64) -> u64 {
    millis as u64 >> SLOT_BITS
}

/// Keys sort by slot, then in the order written.
pub(super) fn key(slot: u64, number: u32) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..8].copy_from_slice(&slot.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn key_parts(key: &[u8]) -> Result<(u64, u32), StorageError> {
    let parts = key
        .split_first_chunk()
        .and_then(|(slot, number)| Some((u64::from_be_bytes(*slot), u32::from_be_bytes(number.try_into().ok()?))));
    parts.ok_or_else(|| StorageError::corrupt("key of a decision block"))
}

/// 32 of a request id's random bits.
pub(super) fn id_mark(id: RequestId) -> u32 {
    let [.., a, b, c, d] = id.0;
    u32::from_le_bytes([a, b, c, d])
}

/// 32 bits of a visitor's pseudonym; 0 stands for nobody.
pub(super) fn visitor_mark(uid: Uid) -> u32 {
    (uid.spread() as u32).max(1)
}

/// Marks of request id and visitor, the latter 0 where the record was erased.
pub(super) fn marks(head: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    head.as_chunks::<8>().0.iter().map(|pair| {
        let both = u64::from_le_bytes(*pair);
        (both as u32, (both >> 32) as u32)
    })
}

/// A record in a block.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) id: RequestId,
    /// `None` where the visitor was erased.
    pub(super) live: Option<(Uid, Body<'a>)>,
}

#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    kind: u8,
    bytes: &'a [u8],
}

impl Entry<'_> {
    /// The record as it was given.
    pub(super) fn record(&self) -> Option<Vec<u8>> {
        self.live.map(|(uid, body)| {
            let mut record = Vec::with_capacity(OPENING + body.bytes.len());
            if body.kind == REST {
                record.extend_from_slice(&opening(self.id, uid));
            }
            record.extend_from_slice(body.bytes);
            record
        })
    }
}

/// A record as prost encodes it begins with its request id and visitor, which the directory has.
fn opening(id: RequestId, uid: Uid) -> [u8; OPENING] {
    let mut bytes = [0; OPENING];
    bytes[..2].copy_from_slice(&[1 << 3 | 2, 16]);
    bytes[2..18].copy_from_slice(&id.0);
    bytes[18..20].copy_from_slice(&[2 << 3 | 2, UID as u8]);
    bytes[20..].copy_from_slice(&uid.0);
    bytes
}

pub(super) struct Block<'a> {
    bodies: &'a [u8],
    directory: &'a [[u8; ENTRY]],
}

impl<'a> Block<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, StorageError> {
        let parts = || {
            let (rest, count) = bytes.split_last_chunk()?;
            let size = (u32::from_le_bytes(*count) as usize).checked_mul(ENTRY)?;
            let (bodies, directory) = rest.split_at_checked(rest.len().checked_sub(size)?)?;
            Some(Self { bodies, directory: directory.as_chunks().0 })
        };
        parts().ok_or_else(corrupt)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RequestId> {
        self.directory.iter().filter_map(|entry| RequestId::from_slice(&entry[..16]))
    }

    pub(super) fn find(&self, id: RequestId) -> Result<Option<Entry<'a>>, StorageError> {
        self.ids().position(|found| found == id).map(|i| self.entry(i)).transpose()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Result<Entry<'a>, StorageError>> {
        (0..self.directory.len()).map(|i| self.entry(i))
    }

    fn entry(&self, i: usize) -> Result<Entry<'a>, StorageError> {
        let end = |i: usize| {
            let (_, end) = self.directory[i].split_last_chunk::<4>()?;
            Some(u32::from_le_bytes(*end) as usize)
        };
        let read = || {
            let entry = &self.directory[i];
            let start = if i == 0 { 0 } else { end(i - 1)? };
            let bytes = self.bodies.get(start..end(i)?)?;
            let live = match entry[16 + UID] {
                ERASED => None,
                kind @ (WHOLE | REST) => Some((Uid::from_slice(&entry[16..16 + UID])?, Body { kind, bytes })),
                _ => return None,
            };
            Some(Entry { id: RequestId::from_slice(&entry[..16])?, live })
        };
        read().ok_or_else(corrupt)
    }
}

fn corrupt() -> StorageError {
    StorageError::corrupt("decision block")
}

/// A block being filled.
#[derive(Default)]
pub(super) struct Builder {
    head: Vec<u8>,
    bodies: Vec<u8>,
    directory: Vec<u8>,
}

impl Builder {
    pub(super) fn push(&mut self, id: RequestId, uid: Uid, record: &[u8]) {
        let body = match record.strip_prefix(&opening(id, uid)) {
            Some(rest) => Body { kind: REST, bytes: rest },
            None => Body { kind: WHOLE, bytes: record },
        };
        self.push_entry(Entry { id, live: Some((uid, body)) });
    }

    pub(super) fn push_entry(&mut self, entry: Entry) {
        if self.is_empty() {
            self.bodies.reserve(BLOCK_BYTES);
        }
        let (uid, kind, mark) = match entry.live {
            Some((uid, body)) => {
                self.bodies.extend_from_slice(body.bytes);
                (uid, body.kind, visitor_mark(uid))
            }
            None => (Uid([0; UID]), ERASED, 0),
        };
        self.head.extend_from_slice(&id_mark(entry.id).to_le_bytes());
        self.head.extend_from_slice(&mark.to_le_bytes());
        self.directory.extend_from_slice(&entry.id.0);
        self.directory.extend_from_slice(&uid.0);
        self.directory.push(kind);
        self.directory.extend_from_slice(&(self.bodies.len() as u32).to_le_bytes());
    }

    pub(super) fn is_full(&self) -> bool {
        self.bodies.len() + self.directory.len() >= BLOCK_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = RequestId> {
        self.directory.as_chunks::<ENTRY>().0.iter().filter_map(|e| RequestId::from_slice(&e[..16]))
    }

    /// Head and block.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        let count = (self.directory.len() / ENTRY) as u32;
        self.bodies.reserve_exact(self.directory.len() + 4);
        self.bodies.extend_from_slice(&self.directory);
        self.bodies.extend_from_slice(&count.to_le_bytes());
        (self.head, self.bodies)
    }
}
