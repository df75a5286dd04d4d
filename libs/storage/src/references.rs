//! Which objects a decision record names.

use crate::{ObjectHash, StorageError};
use attune_proto::decision::v1::DecisionRecord;
use bytes::Bytes;
use prost::Message as _;

/// The names in a record, each once. A record that is not one is refused with its position.
pub(crate) fn named_objects(index: usize, record: Bytes) -> Result<Vec<ObjectHash>, StorageError> {
    let record = DecisionRecord::decode(record).map_err(|e| {
        StorageError::invalid(
            &format!("entries[{index}]"),
            format!("is not a decision record: {e}"),
        )
    })?;
    let fields = [
        ("posteriors", record.posteriors),
        ("state", record.state),
        ("own", record.own),
        ("candidates", record.candidates),
        ("index", record.index),
    ];
    let mut names = Vec::with_capacity(fields.len());
    for (field, hash) in fields {
        if hash.is_empty() {
            continue;
        }
        let hash = ObjectHash::from_slice(&hash).ok_or_else(|| {
            StorageError::invalid(&format!("entries[{index}].{field}"), "must be 16 bytes")
        })?;
        if !names.contains(&hash) {
            names.push(hash);
        }
    }
    Ok(names)
}
