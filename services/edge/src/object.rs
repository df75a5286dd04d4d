//! Immutable things a decision record names by hash.

use bytes::Bytes;

/// 16 bytes of blake3 over the content, and the content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object {
    pub(crate) hash: [u8; 16],
    pub(crate) content: Bytes,
}

impl Object {
    pub(crate) fn new(content: Vec<u8>) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(&content).as_bytes()[..16]);
        Self { hash, content: Bytes::from(content) }
    }
}
