//! Immutable things a decision record names by hash.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Content, and 16 bytes of blake3 over it as its name. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Object(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hash: [u8; 16],
    /// The same, for records, which share it.
    name: Bytes,
    content: Bytes,
    /// Whether the origin has it.
    sent: AtomicBool,
}

impl Object {
    pub(crate) fn new(content: Vec<u8>) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(&content).as_bytes()[..16]);
        let name = Bytes::copy_from_slice(&hash);
        Self(Arc::new(Inner { hash, name, content: Bytes::from(content), sent: AtomicBool::new(false) }))
    }

    pub(crate) fn hash(&self) -> &[u8; 16] {
        &self.0.hash
    }

    pub(crate) fn name(&self) -> Bytes {
        self.0.name.clone()
    }

    pub(crate) fn content(&self) -> &Bytes {
        &self.0.content
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.0.sent.load(Relaxed)
    }

    pub(crate) fn set_sent(&self) {
        self.0.sent.store(true, Relaxed);
    }
}
