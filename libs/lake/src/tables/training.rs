//! What was served and seen, the features as they were known then, and what came of it.

use super::{model, model_value, request_id, request_value, uid, uid_value};
use crate::row::{BadField, Fields, Row, Value, float, int, text};
use crate::schema::{Column, Kind, optional, required};
use attune_domain::{
    Context, Device, Geo, ItemId, ItemIx, PageType, RequestId, SlotKind, Uid, UnixMillis, UserAttributes, Variant,
};

const FIXED: [Column; 23] = [
    required("request_id", Kind::Fixed(16)),
    required("uid", Kind::Fixed(17)),
    required("decided_at", Kind::Millis),
    required("position", Kind::U32),
    required("item", Kind::U32),
    required("item_id", Kind::Text),
    required("slot", Kind::Text),
    optional("propensity", Kind::F32),
    optional("score", Kind::F32),
    required("variant", Kind::Text),
    required("page_type", Kind::Text),
    required("device", Kind::Text),
    required("geo", Kind::Text),
    required("model", Kind::Text),
    required("clicked", Kind::Bool),
    required("converted", Kind::Bool),
    optional("dwell_seconds", Kind::F32),
    required("known_events", Kind::U32),
    required("window_events", Kind::U32),
    optional("known_watermark", Kind::Millis),
    optional("newest_event_at", Kind::Millis),
    optional("served_watermark", Kind::Millis),
    required("attributes", Kind::Pairs),
];

/// Names of the feature columns: those of the ranker, each after `f_`.
pub fn feature_columns() -> impl Iterator<Item = &'static str> {
    static NAMES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    NAMES
        .get_or_init(|| attune_model::feature_names().map(|name| format!("f_{name}")).collect())
        .iter()
        .map(String::as_str)
}

pub(crate) fn columns() -> Vec<Column> {
    FIXED.into_iter().chain(feature_columns().map(|name| required(name, Kind::F32))).collect()
}

/// An impression with what was known of it when it was decided, and its label.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingRow {
    pub request_id: RequestId,
    pub uid: Uid,
    pub decided_at: UnixMillis,
    pub position: u32,
    pub item: ItemIx,
    pub item_id: ItemId,
    pub slot: SlotKind,
    pub propensity: Option<f32>,
    pub score: Option<f32>,
    pub variant: Variant,
    pub context: Context,
    pub model: u64,
    pub clicked: bool,
    pub converted: bool,
    pub dwell_seconds: Option<f32>,
    /// Events of the visitor that had been accepted.
    pub known_events: u32,
    pub window_events: u32,
    /// Acceptance time of the newest of them.
    pub known_watermark: Option<UnixMillis>,
    /// Event time of the newest event of the window.
    pub newest_event_at: Option<UnixMillis>,
    /// Watermark of the state that the decision saw.
    pub served_watermark: Option<UnixMillis>,
    pub attributes: UserAttributes,
    /// In the order of [`feature_columns`].
    pub features: Vec<f32>,
}

impl TrainingRow {
    pub fn into_row(self) -> Row {
        let number = |n: u32| Value::Int(i64::from(n));
        let mut row = vec![
            request_value(self.request_id),
            uid_value(&self.uid),
            Value::Int(self.decided_at),
            number(self.position),
            number(self.item.0),
            Value::text(self.item_id.as_str()),
            Value::text(self.slot.as_str()),
            Value::of(self.propensity, Value::Float),
            Value::of(self.score, Value::Float),
            Value::text(self.variant.as_str()),
            Value::text(self.context.page.as_str()),
            Value::text(self.context.device.as_str()),
            Value::text(self.context.geo.as_str()),
            model_value(self.model),
            Value::Bool(self.clicked),
            Value::Bool(self.converted),
            Value::of(self.dwell_seconds, Value::Float),
            number(self.known_events),
            number(self.window_events),
            Value::of(self.known_watermark, Value::Int),
            Value::of(self.newest_event_at, Value::Int),
            Value::of(self.served_watermark, Value::Int),
            Value::Pairs(self.attributes.0),
        ];
        row.extend(self.features.into_iter().map(Value::Float));
        row
    }

    pub fn from_row(row: Row) -> Result<Self, BadField> {
        let columns = columns();
        let f = &mut Fields::new(&columns, row);
        let word = "is not in the closed list";
        Ok(Self {
            request_id: request_id(f)?,
            uid: uid(f)?,
            decided_at: f.int()?,
            position: f.number()?,
            item: ItemIx(f.number()?),
            item_id: f.with(|v| text(v).and_then(|t| ItemId::new(&t).ok()), "must be 1 to 128 plain bytes")?,
            slot: f.with(|v| text(v).and_then(|t| SlotKind::parse(&t)), word)?,
            propensity: f.maybe(float, "must be a finite number")?,
            score: f.maybe(float, "must be a finite number")?,
            variant: f.with(|v| text(v).and_then(|t| Variant::parse(&t)), word)?,
            context: Context {
                page: f.with(|v| text(v).and_then(|t| PageType::parse(&t)), word)?,
                device: f.with(|v| text(v).and_then(|t| Device::parse(&t)), word)?,
                geo: f.with(|v| text(v).and_then(|t| Geo::parse(&t)), word)?,
            },
            model: f.with(model, "must be hexadecimal")?,
            clicked: f.bool()?,
            converted: f.bool()?,
            dwell_seconds: f.maybe(float, "must be a finite number")?,
            known_events: f.number()?,
            window_events: f.number()?,
            known_watermark: f.maybe(int, "is no time")?,
            newest_event_at: f.maybe(int, "is no time")?,
            served_watermark: f.maybe(int, "is no time")?,
            attributes: UserAttributes(f.pairs()?),
            features: feature_columns().map(|_| f.float()).collect::<Result<_, _>>()?,
        })
    }
}
