//! What the shop said of its items: a row for each version, in the order of the log.

use super::{Source, source};
use crate::row::{BadField, Fields, Row, Value, int, text};
use crate::schema::{Column, Kind, optional, required};
use attune_domain::{Item, ItemId, ItemIx, ItemUpdate, MAX_ATTRIBUTES, MAX_CATEGORIES, UnixMillis};

pub const COLUMNS: [Column; 11] = [
    required("offset", Kind::U64),
    required("item", Kind::U32),
    required("item_id", Kind::Text),
    required("title", Kind::Text),
    required("categories", Kind::Texts),
    required("attributes", Kind::Pairs),
    optional("price", Kind::I64),
    optional("created_at", Kind::Millis),
    required("available", Kind::Bool),
    required("accepted_at", Kind::Millis),
    required("source", Kind::Text),
];

#[derive(Debug, Clone, PartialEq)]
pub struct ItemRow {
    pub offset: u64,
    pub update: ItemUpdate,
    /// 0 where nobody noted it.
    pub accepted_at: UnixMillis,
    pub source: Source,
}

impl ItemRow {
    pub fn into_row(self) -> Row {
        let Self { offset, update: ItemUpdate { ix, item }, accepted_at, source } = self;
        vec![
            Value::Int(offset as i64),
            Value::Int(i64::from(ix.0)),
            Value::text(item.id.as_str()),
            Value::text(&item.title),
            Value::Texts(item.categories),
            Value::Pairs(item.attributes),
            Value::of(item.price, Value::Int),
            Value::of(item.created_at, Value::Int),
            Value::Bool(item.available),
            Value::Int(accepted_at),
            Value::text(source.as_str()),
        ]
    }

    pub fn from_row(row: Row) -> Result<Self, BadField> {
        let f = &mut Fields::new(&COLUMNS, row);
        let offset = f.int()? as u64;
        let ix = ItemIx(f.number()?);
        let item = Item {
            id: f.with(|v| text(v).and_then(|t| ItemId::new(&t).ok()), "must be 1 to 128 plain bytes")?,
            title: f.text()?,
            categories: f.texts()?,
            attributes: f.pairs()?,
            price: f.maybe(int, "is no number")?,
            created_at: f.maybe(int, "is no time")?,
            available: f.bool()?,
        };
        let many = |column| Err(BadField { column, reason: "has too many entries" });
        if item.categories.len() > MAX_CATEGORIES {
            return many("categories");
        }
        if item.attributes.len() > MAX_ATTRIBUTES {
            return many("attributes");
        }
        Ok(Self { offset, update: ItemUpdate { ix, item }, accepted_at: f.int()?, source: source(f)? })
    }
}
