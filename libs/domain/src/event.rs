//! What visitors do.

use crate::context::closed_list;
use crate::{EventId, EventKey, ItemId, ItemIx, Level, RequestId, Uid, UnixMillis, Variant};

closed_list! {
    /// Type of an event. `value` is seconds for `dwell` and minor currency units for `conversion`, otherwise 1.
    EventKind {
        Impression = "impression", Click = "click", Conversion = "conversion", Dwell = "dwell", Like = "like",
        Hide = "hide",
    }
}

impl EventKind {
    /// Whether the event says something about the visitor's taste and so enters the window. An impression does not.
    pub const fn is_interaction(self) -> bool {
        !matches!(self, Self::Impression)
    }
}

closed_list! {
    /// How the item of a slot was chosen: for its posterior mean, for its Thompson draw although its mean would not have
    /// shown it, or uniformly from the eligible candidates.
    SlotKind { Exploit = "exploit", Explore = "explore", Uniform = "uniform" }
}

/// What a decision says of one of its slots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecidedSlot {
    /// Zero-based.
    pub position: u16,
    /// The slot the item would have, were the slate sorted by score.
    pub ideal_position: u16,
    pub kind: SlotKind,
    pub variant: Variant,
    pub level: Level,
    /// [`crate::ModelVersion::code`].
    pub model: u64,
    /// Of a uniform slot: the probability that it showed this item.
    pub propensity: Option<f32>,
    /// The item's score in the answer. None where the list was not scored.
    pub score: Option<f32>,
}

/// An accepted event, as it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedEvent {
    pub uid: Uid,
    pub event_id: EventId,
    pub kind: EventKind,
    pub item_id: ItemId,
    /// Resolved by the acceptor, once, so that every consumer agrees; [`ItemIx::UNKNOWN`] where there was no such item.
    pub item: ItemIx,
    /// The decision this event answers to, if the client said so.
    pub request_id: Option<RequestId>,
    /// Zero-based slot in that decision.
    pub position: Option<u32>,
    pub occurred_at: UnixMillis,
    pub accepted_at: UnixMillis,
    pub value: f32,
    /// Imported history feeds windows and training, never trending, posteriors or experiments.
    pub imported: bool,
    /// The acceptor found the item in the decision that `request_id` names; only such events move posteriors.
    pub in_decision: bool,
    /// What that decision says of the item, where the acceptor found it; the client is not asked.
    pub decided: Option<DecidedSlot>,
}

impl LoggedEvent {
    pub fn key(&self) -> EventKey {
        EventKey::of(self.event_id.as_str())
    }
}
