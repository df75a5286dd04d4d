//! Identifiers, each its own type.

use std::fmt;
use std::sync::Arc;

/// Why an external identifier was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {max} bytes", max = Id::MAX_BYTES)]
    TooLong,
    #[error("must not contain control characters")]
    ControlCharacter,
}

/// An identifier from outside: 1 to 128 bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Arc<str>);

impl Id {
    pub const MAX_BYTES: usize = 128;

    /// Checks the bytes, then copies them once.
    pub fn new(text: &str) -> Result<Self, IdError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// The rule without the copy, for hot paths that only need to know.
    pub fn check(text: &str) -> Result<(), IdError> {
        match text.len() {
            0 => Err(IdError::Empty),
            n if n > Self::MAX_BYTES => Err(IdError::TooLong),
            _ if text.chars().any(char::is_control) => Err(IdError::ControlCharacter),
            _ => Ok(()),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The shop's name of an item.
pub type ItemId = Id;
/// The client's name of an event; with the uid it identifies the event.
pub type EventId = Id;
/// The client's name of a session.
pub type SessionId = Id;

/// Dense number of an item: its position in the item-updates log. Stable for the life of a state folder, and the same
/// in every process, because the log's one writer assigns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ItemIx(pub u32);

impl ItemIx {
    /// An item that the catalogue did not know when the event was accepted.
    pub const UNKNOWN: Self = Self(u32::MAX);

    pub fn is_known(self) -> bool {
        self != Self::UNKNOWN
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A visitor's stable pseudonym: key version, then HMAC-SHA256(subject key, raw id) cut to 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(pub [u8; 17]);

impl Uid {
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub fn key_version(&self) -> u8 {
        self.0[0]
    }

    /// Evenly spread 64 bits for sharding and assignment. Not secret, not for logs.
    pub fn spread(&self) -> u64 {
        u64::from_le_bytes([self.0[1], self.0[2], self.0[3], self.0[4], self.0[5], self.0[6], self.0[7], self.0[8]])
    }
}

impl fmt::Debug for Uid {
    /// Shows the type only: a uid is personal data, and what may be logged is a separate, rotating hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uid(..)")
    }
}

/// Hashes keys that are evenly spread already ([`Uid`], [`RequestId`], content hashes) by taking their last 8 bytes.
/// Nobody outside can choose those, so tables need no keyed hash.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpreadHasher(u64);

/// For tables by such keys.
pub type BySpread = std::hash::BuildHasherDefault<SpreadHasher>;

impl std::hash::Hasher for SpreadHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut last = [0; 8];
        let n = bytes.len().min(8);
        last[..n].copy_from_slice(&bytes[bytes.len() - n..]);
        self.0 ^= u64::from_le_bytes(last);
    }

    /// The length of a key of fixed size says nothing.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Names an answer, its trace and its decision record: 48 bits of Unix milliseconds, then 80 random bits
/// (the low 56 are the sampling randomness of W3C trace context level 2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    pub fn new(now: crate::UnixMillis, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&now.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        Self(bytes)
    }

    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// 32 lower-case hexadecimal digits, as in `traceparent`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }

    pub fn unix_millis(&self) -> crate::UnixMillis {
        let mut wide = [0; 8];
        wide[2..].copy_from_slice(&self.0[..6]);
        i64::from_be_bytes(wide)
    }

    /// The low 56 bits, which decide whether the trace is sampled.
    pub fn randomness(&self) -> u64 {
        let mut wide = [0; 8];
        wide[1..].copy_from_slice(&self.0[9..]);
        u64::from_be_bytes(wide)
    }

    pub fn to_hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [0; 32];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[(byte >> 4) as usize];
            pair[1] = DIGITS[(byte & 15) as usize];
        }
        out
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 64-bit digest of an event id: breaks ties between events of one millisecond, and identifies the event in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(pub u64);

impl EventKey {
    pub fn of(event_id: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(event_id.as_bytes()))
    }
}

/// Version of a bundle: the first 16 hexadecimal digits of its manifest's hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ModelVersion(pub Arc<str>);

impl ModelVersion {
    /// The first 64 bits, as decision records hold them; 0 where the version is not hexadecimal.
    pub fn code(&self) -> u64 {
        self.0.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_keeps_time_and_text() {
        let id = RequestId::new(1_769_682_600_123, [7; 10]);
        assert_eq!(id.unix_millis(), 1_769_682_600_123);
        assert_eq!(RequestId::parse(&id.to_string()), Some(id));
        assert_eq!(std::str::from_utf8(&id.to_hex()).unwrap(), id.to_string());
        assert_eq!(RequestId::parse("zz"), None);
    }

    #[test]
    fn ids_are_checked() {
        assert_eq!(Id::new(""), Err(IdError::Empty));
        assert_eq!(Id::new(&"a".repeat(129)), Err(IdError::TooLong));
        assert_eq!(Id::new("a\nb"), Err(IdError::ControlCharacter));
        assert_eq!(Id::new("film 318").unwrap().as_str(), "film 318");
    }
}
