//! Where things lie: every key of a partition of the log in one slot of a cluster.

use bytes::Bytes;
use fred::types::Value;

/// The names of a partition's keys, all of which begin alike.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) text: Bytes,
    pub(super) slot: u16,
}

impl Base {
    pub(super) fn new(prefix: &str, partition: u16) -> Self {
        let text = format!("{prefix}{{p{partition}}}:");
        Self { slot: fred::util::redis_keyslot(text.as_bytes()), text: text.into() }
    }

    pub(super) fn key(&self, name: &str) -> Value {
        self.named(name, &[])
    }

    /// A visitor's state.
    pub(super) fn user(&self, uid: &[u8]) -> Value {
        self.named("u:", uid)
    }

    /// Offset below which a visitor's records are void.
    pub(super) fn fence(&self, uid: &[u8]) -> Value {
        self.named("f:", uid)
    }

    pub(super) fn outcomes(&self, day: i64) -> Value {
        self.named("o:", day.to_string().as_bytes())
    }

    /// A pattern of the keys of states and fences.
    pub(super) fn visitors(&self) -> Value {
        let mut pattern = Vec::with_capacity(self.text.len() + 5);
        for &byte in &self.text {
            if b"*?[]\\^-".contains(&byte) {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.extend(b"[fu]:*");
        Value::Bytes(pattern.into())
    }

    fn named(&self, family: &str, rest: &[u8]) -> Value {
        Value::Bytes([&self.text, family.as_bytes(), rest].concat().into())
    }
}

pub(super) fn meta(prefix: &str) -> (Value, u16) {
    let key = format!("{prefix}meta");
    let slot = fred::util::redis_keyslot(key.as_bytes());
    (Value::Bytes(key.into()), slot)
}

pub(super) fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(bytes))
}

pub(super) fn text(text: impl ToString) -> Value {
    Value::Bytes(text.to_string().into())
}
