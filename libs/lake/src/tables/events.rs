//! What visitors did, as the acceptor logged it.

use super::{Source, model, model_value, request_value, source, uid, uid_value};
use crate::row::{BadField, Fields, Row, Value, bytes, float, number, text};
use crate::schema::{Column, Kind, optional, required};
use attune_domain::{
    DecidedSlot, EventId, EventKind, ItemId, ItemIx, Level, LoggedEvent, RequestId, SlotKind, Variant,
};

pub const COLUMNS: [Column; 22] = [
    required("offset", Kind::U64),
    required("uid", Kind::Fixed(17)),
    required("event_id", Kind::Text),
    required("kind", Kind::Text),
    required("item_id", Kind::Text),
    optional("item", Kind::U32),
    optional("request_id", Kind::Fixed(16)),
    optional("position", Kind::U32),
    required("occurred_at", Kind::Millis),
    required("accepted_at", Kind::Millis),
    required("value", Kind::F32),
    required("source", Kind::Text),
    required("in_decision", Kind::Bool),
    optional("decided_position", Kind::U32),
    optional("decided_ideal_position", Kind::U32),
    optional("decided_slot", Kind::Text),
    optional("decided_variant", Kind::Text),
    optional("decided_level", Kind::U32),
    optional("decided_model", Kind::Text),
    optional("decided_propensity", Kind::F32),
    optional("decided_score", Kind::F32),
    required("log_partition", Kind::U32),
];

/// An event and where it stood on the log.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    pub offset: u64,
    pub event: LoggedEvent,
}

impl EventRow {
    pub fn into_row(self) -> Row {
        let Self { offset, event: e } = self;
        let int = |n: u32| Value::Int(i64::from(n));
        let d = e.decided;
        let decided = |read: fn(DecidedSlot) -> Value| Value::of(d, read);
        vec![
            Value::Int(offset as i64),
            uid_value(&e.uid),
            Value::text(e.event_id.as_str()),
            Value::text(e.kind.as_str()),
            Value::text(e.item_id.as_str()),
            Value::of(Some(e.item.0).filter(|_| e.item.is_known()), int),
            Value::of(e.request_id, request_value),
            Value::of(e.position, int),
            Value::Int(e.occurred_at),
            Value::Int(e.accepted_at),
            Value::Float(e.value),
            Value::text(Source::of(e.imported).as_str()),
            Value::Bool(e.in_decision),
            decided(|d| Value::Int(i64::from(d.position))),
            decided(|d| Value::Int(i64::from(d.ideal_position))),
            decided(|d| Value::text(d.kind.as_str())),
            decided(|d| Value::text(d.variant.as_str())),
            decided(|d| Value::Int(i64::from(d.level.code()))),
            decided(|d| model_value(d.model)),
            decided(|d| Value::of(d.propensity, Value::Float)),
            decided(|d| Value::of(d.score, Value::Float)),
            int(u32::from(attune_storage::partition_of(offset))),
        ]
    }

    pub fn from_row(row: Row) -> Result<Self, BadField> {
        let f = &mut Fields::new(&COLUMNS, row);
        let offset = f.int()? as u64;
        let mut event = LoggedEvent {
            uid: uid(f)?,
            event_id: f.with(|v| text(v).and_then(|t| EventId::new(&t).ok()), "must be 1 to 128 plain bytes")?,
            kind: f.with(|v| text(v).and_then(|t| EventKind::parse(&t)), "is no type of event")?,
            item_id: f.with(|v| text(v).and_then(|t| ItemId::new(&t).ok()), "must be 1 to 128 plain bytes")?,
            item: f.maybe(number, "is out of range")?.map_or(ItemIx::UNKNOWN, ItemIx),
            request_id: f.maybe(|v| bytes(v).and_then(|b| RequestId::from_slice(&b)), "must be 16 bytes")?,
            position: f.maybe(number, "is out of range")?,
            occurred_at: f.int()?,
            accepted_at: f.int()?,
            value: f.float()?,
            imported: source(f)? == Source::Import,
            in_decision: f.bool()?,
            decided: None,
        };
        let small = |v| number(v).and_then(|n| u16::try_from(n).ok());
        let position = f.maybe(small, "is out of range")?;
        let ideal = f.maybe(small, "is out of range")?;
        let kind = f.maybe(|v| text(v).and_then(|t| SlotKind::parse(&t)), "is no kind of slot")?;
        let variant = f.maybe(|v| text(v).and_then(|t| Variant::parse(&t)), "is no variant")?;
        let level = |v| number(v).and_then(|n| u8::try_from(n).ok()).and_then(Level::from_code);
        let level = f.maybe(level, "is no level")?;
        let model = f.maybe(model, "must be hexadecimal")?;
        let propensity = f.maybe(float, "must be a finite number")?;
        let score = f.maybe(float, "must be a finite number")?;
        event.decided = match (position, ideal, kind, variant, level, model) {
            (Some(position), Some(ideal_position), Some(kind), Some(variant), Some(level), Some(model)) => {
                Some(DecidedSlot { position, ideal_position, kind, variant, level, model, propensity, score })
            }
            (None, None, None, None, None, None) => None,
            _ => return Err(BadField { column: "decided_position", reason: "and its kin must stand together" }),
        };
        Ok(Self { offset, event })
    }
}
