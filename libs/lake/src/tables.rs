//! Rows of each table, from and to what the platform calls them.

pub mod events;
pub mod impressions;
pub mod items;
pub mod training;
pub mod users;

use crate::row::{BadField, Fields, Value, bytes};
use attune_domain::{RequestId, Uid};

/// Who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Visitors' feedback, or an operator's door.
    Platform,
    /// Somebody's history, imported.
    Import,
}

impl Source {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Import => "import",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Platform, Self::Import].into_iter().find(|source| source.as_str() == text)
    }

    pub(crate) const fn of(imported: bool) -> Self {
        if imported { Self::Import } else { Self::Platform }
    }
}

fn uid_value(uid: &Uid) -> Value {
    Value::Bytes(uid.0.to_vec())
}

fn request_value(id: RequestId) -> Value {
    Value::Bytes(id.0.to_vec())
}

fn uid(fields: &mut Fields<'_>) -> Result<Uid, BadField> {
    fields.with(|v| bytes(v).and_then(|b| Uid::from_slice(&b)), "must be 17 bytes")
}

fn request_id(fields: &mut Fields<'_>) -> Result<RequestId, BadField> {
    fields.with(|v| bytes(v).and_then(|b| RequestId::from_slice(&b)), "must be 16 bytes")
}

/// A model's code as its version begins: 16 hexadecimal digits.
fn model_value(model: u64) -> Value {
    Value::text(&format!("{model:016x}"))
}

fn model(value: Value) -> Option<u64> {
    crate::row::text(value).and_then(|text| u64::from_str_radix(&text, 16).ok())
}

fn source(fields: &mut Fields<'_>) -> Result<Source, BadField> {
    fields.with(|v| crate::row::text(v).and_then(|text| Source::parse(&text)), "must be platform or import")
}
