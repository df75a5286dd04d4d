//! What was served: a row for each slot of a decision, with what the decision log knows of it.

use super::{model_value, request_value, uid_value};
use crate::row::{Row, Value};
use crate::schema::{Column, Kind, optional, required};
use attune_decision::{DecisionRecord, Path, Slot, packed_score, packed_slot};
use attune_domain::{Context, ItemId, LevelReason, RequestId, SlotKind, StateVersion, Uid, UnixMillis, Variant};
use attune_proto::convert;

pub const COLUMNS: [Column; 25] = [
    required("request_id", Kind::Fixed(16)),
    required("uid", Kind::Fixed(17)),
    required("decided_at", Kind::Millis),
    required("position", Kind::U32),
    required("item", Kind::U32),
    optional("item_id", Kind::Text),
    required("slot", Kind::Text),
    optional("propensity", Kind::F32),
    optional("score", Kind::F32),
    required("variant", Kind::Text),
    required("path", Kind::Text),
    required("level", Kind::U32),
    optional("level_reason", Kind::Text),
    required("page_type", Kind::Text),
    required("device", Kind::Text),
    required("geo", Kind::Text),
    required("model", Kind::Text),
    required("catalogue_offset", Kind::U64),
    required("slots", Kind::U32),
    required("eligible", Kind::U32),
    required("policy", Kind::Floats),
    required("seed", Kind::U64),
    optional("state_epoch", Kind::U32),
    optional("state_offset", Kind::U64),
    optional("watermark", Kind::Millis),
];

/// What the decision saw of the visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    pub version: StateVersion,
    pub watermark: Option<UnixMillis>,
}

/// A decision, its codes read.
#[derive(Debug, Clone)]
pub struct Decision {
    pub request_id: RequestId,
    pub uid: Uid,
    pub decided_at: UnixMillis,
    pub context: Context,
    pub variant: Variant,
    pub path: Path,
    pub record: DecisionRecord,
    pub served: Option<Served>,
}

impl Decision {
    /// The error names the field.
    pub fn new(record: DecisionRecord, served: Option<Served>) -> Result<Self, &'static str> {
        let code = u8::try_from(record.variant).ok();
        Ok(Self {
            request_id: RequestId::from_slice(&record.request_id).ok_or("request_id")?,
            uid: Uid::from_slice(&record.uid).ok_or("uid")?,
            decided_at: record.now,
            context: convert::context(record.context.as_ref()).map_err(|_| "context")?,
            variant: code.and_then(Variant::from_code).ok_or("variant")?,
            path: Path::from_code(record.path).ok_or("path")?,
            record,
            served,
        })
    }

    pub fn slot(&self, position: usize) -> SlotKind {
        match packed_slot(&self.record.slots, position) {
            Slot { uniform: true, .. } => SlotKind::Uniform,
            Slot { exploration: true, .. } => SlotKind::Explore,
            Slot { .. } => SlotKind::Exploit,
        }
    }

    /// Of a uniform slot: the probability that it showed its item.
    pub fn propensity(&self, position: usize) -> Option<f32> {
        let uniform = self.record.policy.first().copied().unwrap_or(0.0);
        let is_uniform = self.slot(position) == SlotKind::Uniform && self.record.eligible > 0;
        is_uniform.then(|| uniform / self.record.eligible as f32)
    }

    pub fn score(&self, position: usize) -> Option<f32> {
        packed_score(&self.record.scores, position)
    }

    pub const fn path_name(&self) -> &'static str {
        match self.path {
            Path::Hit => "hit",
            Path::Miss => "miss",
            Path::Favourites => "favourites",
        }
    }

    /// A row for each slot. `name` gives an item's id.
    pub fn rows(&self, name: impl Fn(u32) -> Option<ItemId>) -> Vec<Row> {
        let record = &self.record;
        let int = |n: u32| Value::Int(i64::from(n));
        let reason = record.level_reason.checked_sub(1).and_then(|code| u8::try_from(code).ok());
        let reason = reason.and_then(LevelReason::from_code);
        let row = |(position, &item): (usize, &u32)| {
            vec![
                request_value(self.request_id),
                uid_value(&self.uid),
                Value::Int(self.decided_at),
                Value::Int(position as i64),
                int(item),
                Value::of(name(item), |id| Value::text(id.as_str())),
                Value::text(self.slot(position).as_str()),
                Value::of(self.propensity(position), Value::Float),
                Value::of(self.score(position), Value::Float),
                Value::text(self.variant.as_str()),
                Value::text(self.path_name()),
                int(record.level),
                Value::of(reason, |reason| Value::text(reason.as_str())),
                Value::text(self.context.page.as_str()),
                Value::text(self.context.device.as_str()),
                Value::text(self.context.geo.as_str()),
                model_value(record.model),
                Value::Int(record.catalogue_offset as i64),
                Value::Int(record.items.len() as i64),
                int(record.eligible),
                Value::Floats(record.policy.clone()),
                Value::Int(record.seed as i64),
                Value::of(self.served, |served| int(served.version.epoch)),
                Value::of(self.served, |served| Value::Int(served.version.next_offset as i64)),
                Value::of(self.served.and_then(|served| served.watermark), Value::Int),
            ]
        };
        record.items.iter().enumerate().map(row).collect()
    }
}
