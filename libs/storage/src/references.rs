//! What is read of a decision record without decoding the rest of it: whose it is, its items, and the objects it names.

use crate::{ObjectHash, StorageError};

/// Fields of `attune.decision.v1.DecisionRecord`.
const REQUEST_ID: u64 = 1;
const UID: u64 = 2;
const LEVEL: u64 = 9;
const VARIANT: u64 = 11;
const MODEL: u64 = 13;
const ITEMS: u64 = 16;
const SLOTS: u64 = 17;
const POLICY: u64 = 18;
const ELIGIBLE: u64 = 19;
const SCORES: u64 = 37;
/// Those that name objects.
const NAMING: [(u64, &str); 5] = [(14, "posteriors"), (20, "state"), (21, "own"), (22, "candidates"), (33, "index")];

/// The head of an encoded `attune.decision.v1.DecisionRecord`, borrowed from it.
#[derive(Debug, Default)]
pub struct RecordHead<'a> {
    pub request_id: &'a [u8],
    pub uid: &'a [u8],
    pub level: u64,
    pub variant: u64,
    pub model: u64,
    pub slots: &'a [u8],
    /// Probability that a slot is drawn uniformly, the first of the policy's numbers; 0 where it has none.
    pub uniform: f32,
    pub eligible: u64,
    pub scores: &'a [u8],
    /// In the order of `NAMING`; empty where the record names none.
    names: [&'a [u8]; NAMING.len()],
}

impl<'a> RecordHead<'a> {
    /// Reads the head and appends the record's items to `items`, if they are wanted; `None` where the bytes are not a
    /// record. What it does not read it passes over: a record with an unsound value elsewhere is taken.
    ///
    /// Every hit passes here, and most of a record is passed over: read as the wire format has it (protobuf.dev,
    /// Encoding), several times faster than by a decoder for any message.
    pub fn read(record: &'a [u8], mut items: Option<&mut Vec<u32>>) -> Option<Self> {
        const VARINT: u64 = 0;
        const FIXED64: u64 = 1;
        const LENGTH_DELIMITED: u64 = 2;
        const FIXED32: u64 = 5;
        let mut head = Self::default();
        let mut rest = record;
        while !rest.is_empty() {
            let key = varint(&mut rest)?;
            let (field, wire) = (key >> 3, key & 7);
            let mut number = 0;
            let value: &[u8] = match wire {
                VARINT => {
                    number = varint(&mut rest)?;
                    &[]
                }
                FIXED64 => rest.split_off(..8)?,
                FIXED32 => rest.split_off(..4)?,
                LENGTH_DELIMITED => {
                    let length = usize::try_from(varint(&mut rest)?).ok()?;
                    rest.split_off(..length)?
                }
                _ => return None,
            };
            let place = match field {
                0 => return None,
                REQUEST_ID => &mut head.request_id,
                UID => &mut head.uid,
                SLOTS => &mut head.slots,
                SCORES => &mut head.scores,
                LEVEL | VARIANT | ELIGIBLE => {
                    let place = match field {
                        LEVEL => &mut head.level,
                        VARIANT => &mut head.variant,
                        _ => &mut head.eligible,
                    };
                    *place = if wire == VARINT { number } else { return None };
                    continue;
                }
                MODEL => {
                    head.model = u64::from_le_bytes(value.try_into().ok()?);
                    continue;
                }
                POLICY => {
                    head.uniform = value.first_chunk().map_or(0.0, |first| f32::from_le_bytes(*first));
                    continue;
                }
                ITEMS => {
                    let mut packed = if wire == LENGTH_DELIMITED { value } else { return None };
                    while let (Some(items), false) = (items.as_deref_mut(), packed.is_empty()) {
                        items.push(u32::try_from(varint(&mut packed)?).ok()?);
                    }
                    continue;
                }
                _ => match NAMING.iter().position(|(naming, _)| *naming == field) {
                    Some(i) => &mut head.names[i],
                    None => continue,
                },
            };
            *place = if wire == LENGTH_DELIMITED { value } else { return None };
        }
        Some(head)
    }
}

/// Takes a number of seven bits a byte, lowest first.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
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
