//! What the shop said of visitors: a row for each version of their attributes.

use super::{Source, source, uid, uid_value};
use crate::row::{BadField, Fields, Row, Value};
use crate::schema::{Column, Kind, required};
use attune_domain::{MAX_ATTRIBUTES, Uid, UnixMillis, UserAttributes};

pub const COLUMNS: [Column; 5] = [
    required("offset", Kind::U64),
    required("uid", Kind::Fixed(17)),
    required("attributes", Kind::Pairs),
    required("accepted_at", Kind::Millis),
    required("source", Kind::Text),
];

#[derive(Debug, Clone, PartialEq)]
pub struct UserRow {
    pub offset: u64,
    pub uid: Uid,
    pub attributes: UserAttributes,
    /// 0 where nobody noted it.
    pub accepted_at: UnixMillis,
    pub source: Source,
}

impl UserRow {
    pub fn into_row(self) -> Row {
        vec![
            Value::Int(self.offset as i64),
            uid_value(&self.uid),
            Value::Pairs(self.attributes.0),
            Value::Int(self.accepted_at),
            Value::text(self.source.as_str()),
        ]
    }

    pub fn from_row(row: Row) -> Result<Self, BadField> {
        let f = &mut Fields::new(&COLUMNS, row);
        let (offset, uid, mut attributes) = (f.int()? as u64, uid(f)?, f.pairs()?);
        if attributes.len() > MAX_ATTRIBUTES {
            return Err(BadField { column: "attributes", reason: "has too many entries" });
        }
        attributes.sort();
        Ok(Self { offset, uid, attributes: UserAttributes(attributes), accepted_at: f.int()?, source: source(f)? })
    }
}
