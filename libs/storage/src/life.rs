//! How long an object lives: until retention passes the last day it was named, or until its only visitor is erased.

use attune_domain::{RequestId, Uid, UnixMillis};

const DAY: UnixMillis = 86_400_000;

/// Who named an object, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Life {
    #[default]
    Unnamed,
    /// By one visitor's records only, of whom 64 bits are kept; on the last of these days since the Unix epoch.
    One { day: u32, visitor: u64 },
    /// By several visitors' records. Stays so when some or all of them are erased.
    Several { day: u32 },
}

impl Life {
    pub(crate) const BYTES: usize = 13;

    /// A record of `uid` names it. Gives whether that says anything new.
    pub(crate) fn name(&mut self, id: RequestId, uid: Uid) -> bool {
        let at = (id.unix_millis() / DAY) as u32;
        let named = match *self {
            Self::Unnamed => Self::One { day: at, visitor: uid.spread() },
            Self::One { day, visitor } if visitor == uid.spread() => Self::One { day: day.max(at), visitor },
            Self::One { day, .. } | Self::Several { day } => Self::Several { day: day.max(at) },
        };
        std::mem::replace(self, named) != named
    }

    pub(crate) fn is_named(&self) -> bool {
        *self != Self::Unnamed
    }

    /// Whether no other visitor's record ever named it.
    pub(crate) fn is_only(&self, uid: Uid) -> bool {
        matches!(*self, Self::One { visitor, .. } if visitor == uid.spread())
    }

    /// Whether the last day it was named lies wholly before `before`.
    pub(crate) fn is_over(&self, before: UnixMillis) -> bool {
        match *self {
            Self::Unnamed => false,
            Self::One { day, .. } | Self::Several { day } => (i64::from(day) + 1) * DAY <= before,
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let (kind, day, visitor) = match self {
            Self::Unnamed => (0, 0, 0),
            Self::One { day, visitor } => (1, day, visitor),
            Self::Several { day } => (2, day, 0),
        };
        let mut bytes = [0; Self::BYTES];
        bytes[0] = kind;
        bytes[1..5].copy_from_slice(&day.to_le_bytes());
        bytes[5..].copy_from_slice(&visitor.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[kind], rest) = bytes.split_first_chunk()?;
        let (day, visitor) = rest.split_first_chunk()?;
        let (day, visitor) = (u32::from_le_bytes(*day), u64::from_le_bytes(visitor.try_into().ok()?));
        match kind {
            0 => Some(Self::Unnamed),
            1 => Some(Self::One { day, visitor }),
            2 => Some(Self::Several { day }),
            _ => None,
        }
    }
}
