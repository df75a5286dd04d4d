//! What is read of a decision record without decoding the rest of it: whose it is, its items, and the objects it names.

use crate::{ObjectHash, StorageError};
use prost::encoding::{self, DecodeContext, WireType};

/// Fields of `attune.decision.v1.DecisionRecord` that name objects.
const NAMING: [(u32, &str); 5] = [(14, "posteriors"), (20, "state"), (21, "own"), (22, "candidates"), (33, "index")];

/// The head of an encoded `attune.decision.v1.DecisionRecord`, borrowed from it.
#[derive(Debug, Default)]
pub struct RecordHead<'a> {
    pub request_id: &'a [u8],
    pub uid: &'a [u8],
    /// In the order of `NAMING`; empty where the record names none.
    names: [&'a [u8]; NAMING.len()],
}

impl<'a> RecordHead<'a> {
    /// Reads the head and appends the record's items to `items`, if they are wanted; `None` where the bytes are not a
    /// record. What it does not read it passes over: a record with an unsound value elsewhere is taken.
    pub fn read(record: &'a [u8], mut items: Option<&mut Vec<u32>>) -> Option<Self> {
        let mut head = Self::default();
        let mut rest = record;
        while !rest.is_empty() {
            let (tag, wire) = encoding::decode_key(&mut rest).ok()?;
            let slot = match tag {
                1 => &mut head.request_id,
                2 => &mut head.uid,
                16 if let Some(items) = items.as_deref_mut() => {
                    encoding::uint32::merge_repeated(wire, items, &mut rest, DecodeContext::default()).ok()?;
                    continue;
                }
                _ => match NAMING.iter().position(|(field, _)| *field == tag) {
                    Some(i) => &mut head.names[i],
                    None => {
                        encoding::skip_field(wire, tag, &mut rest, DecodeContext::default()).ok()?;
                        continue;
                    }
                },
            };
            encoding::check_wire_type(WireType::LengthDelimited, wire).ok()?;
            let length = encoding::decode_varint(&mut rest).ok()?;
            (*slot, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        }
        Some(head)
    }
}

/// The names in a record, each once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    hashes: [ObjectHash; NAMING.len()],
    count: usize,
}

impl Names {
    /// A record that is not one is refused with its position.
    pub(crate) fn read(index: usize, record: &[u8]) -> Result<Self, StorageError> {
        let head = RecordHead::read(record, None)
            .ok_or_else(|| StorageError::invalid(&format!("entries[{index}]"), "is not a decision record"))?;
        let mut names = Self { hashes: [ObjectHash([0; 16]); NAMING.len()], count: 0 };
        for ((_, field), hash) in NAMING.iter().zip(head.names) {
            if hash.is_empty() {
                continue;
            }
            let hash = ObjectHash::from_slice(hash)
                .ok_or_else(|| StorageError::invalid(&format!("entries[{index}].{field}"), "must be 16 bytes"))?;
            if !names.as_slice().contains(&hash) {
                names.hashes[names.count] = hash;
                names.count += 1;
            }
        }
        Ok(names)
    }

    pub(crate) fn as_slice(&self) -> &[ObjectHash] {
        &self.hashes[..self.count]
    }
}
