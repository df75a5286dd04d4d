//! What a decision's record says of its slots, for those who respond to one.

use attune_decision::{Slot, packed_score, packed_slot};
use attune_domain::{DecidedSlot, ItemIx, Level, SlotKind, Variant};
use attune_storage::RecordHead;

/// What holds for every slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) model: u64,
    /// Probability that a slot is drawn uniformly.
    pub(crate) uniform: f32,
    /// Candidates that a uniform slot is drawn from.
    pub(crate) eligible: u16,
    pub(crate) level: u8,
    pub(crate) variant: u8,
}

impl Facts {
    pub(crate) fn of(head: &RecordHead<'_>) -> Self {
        let code = |n| u8::try_from(n).unwrap_or(u8::MAX);
        Self {
            model: head.model,
            uniform: head.uniform,
            eligible: u16::try_from(head.eligible).unwrap_or(u16::MAX),
            level: code(head.level),
            variant: code(head.variant),
        }
    }
}

/// A slate, borrowed from its record or from what is remembered of it.
pub(crate) struct Slate<'a> {
    pub(crate) items: &'a [u32],
    /// Two bytes an item, or none where the list was not scored.
    pub(crate) scores: &'a [u8],
    pub(crate) slots: &'a [u8],
    pub(crate) facts: Facts,
}

impl Slate<'_> {
    /// The slot that the item is in; none where it is in no slot, or the record is of another build.
    pub(crate) fn decided(&self, item: ItemIx) -> Option<DecidedSlot> {
        let position = self.items.iter().position(|&shown| shown == item.0)?;
        let Facts { model, uniform, eligible, level, variant } = self.facts;
        let kind = match packed_slot(self.slots, position) {
            Slot { uniform: true, .. } => SlotKind::Uniform,
            Slot { exploration: true, .. } => SlotKind::Explore,
            Slot { .. } => SlotKind::Exploit,
        };
        let score = packed_score(self.scores, position);
        let better = |other: usize| {
            let theirs = packed_score(self.scores, other);
            theirs > score || theirs == score && other < position
        };
        let ideal = (0..self.items.len()).filter(|&other| better(other)).count();
        Some(DecidedSlot {
            position: u16::try_from(position).ok()?,
            ideal_position: u16::try_from(ideal).ok()?,
            kind,
            variant: Variant::from_code(variant)?,
            level: Level::from_code(level)?,
            model,
            propensity: (kind == SlotKind::Uniform && eligible > 0).then(|| uniform / f32::from(eligible)),
            score,
        })
    }
}
