//! How much a call may carry. The same for every back-end, so that none surprises when it replaces another.

use crate::{DecisionEntry, ObjectHash, Record, StorageError};
use bytes::Bytes;

/// Largest key, value and trace context of one record together.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// Largest sum over the records of one append.
pub const MAX_APPEND_BYTES: usize = 8 << 20;
/// A read ends with the record that passes this, even when fewer than `max` were found.
pub const MAX_READ_BYTES: usize = 4 << 20;
/// Objects (candidate sets, posterior snapshots, index generations) are larger than records.
pub(crate) const MAX_OBJECT_BYTES: usize = 64 << 20;

impl Record {
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + self.traceparent.len()
    }
}

/// Bytes of an append, or why it is refused.
pub(crate) fn append_bytes<'a>(records: impl Iterator<Item = &'a Record>) -> Result<usize, StorageError> {
    let mut total = 0;
    for (i, record) in records.enumerate() {
        let bytes = record.bytes();
        if bytes > MAX_RECORD_BYTES {
            return Err(StorageError::invalid(
                &format!("records[{i}]"),
                format!("must be at most {MAX_RECORD_BYTES} bytes"),
            ));
        }
        total += bytes;
    }
    if total > MAX_APPEND_BYTES {
        return Err(StorageError::invalid("records", format!("must be at most {MAX_APPEND_BYTES} bytes together")));
    }
    Ok(total)
}

/// Bytes of decision records and objects, or why they are refused.
pub(crate) fn decision_bytes(
    entries: &[DecisionEntry],
    objects: &[(ObjectHash, Bytes)],
) -> Result<usize, StorageError> {
    let mut total = 0;
    for (i, entry) in entries.iter().enumerate() {
        if entry.record.len() > MAX_RECORD_BYTES {
            return Err(StorageError::invalid(
                &format!("entries[{i}]"),
                format!("must be at most {MAX_RECORD_BYTES} bytes"),
            ));
        }
        total += entry.record.len();
    }
    for (i, (hash, content)) in objects.iter().enumerate() {
        if content.len() > MAX_OBJECT_BYTES {
            return Err(StorageError::invalid(
                &format!("objects[{i}]"),
                format!("must be at most {MAX_OBJECT_BYTES} bytes"),
            ));
        }
        if ObjectHash::of(content) != *hash {
            return Err(StorageError::invalid(&format!("objects[{i}]"), "is not the content its name says"));
        }
        total += content.len();
    }
    Ok(total)
}
