//! Data sets: what `attune import` writes, `attune train` and `attune eval` read, and a fresh state folder is filled from.
//!
//! Always holds: users are pseudonyms under one subject key; items are numbered densely; events are in log order.

mod codec;
pub mod import;
mod progress;
mod store;
pub mod world;

pub use import::{Format, ImportError, Report, Source, detect, import};
pub use progress::{BarProgress, ImportProgress, NoProgress};
pub use store::DatasetError;
pub use world::{Visitor, World, WorldConfig, WorldError};

use attune_domain::{
    Context, EventId, EventKind, Item, ItemId, ItemIx, LoggedEvent, RequestId, Uid, UnixMillis, UserAttributes,
};

/// An event of imported or simulated history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DatasetEvent {
    /// Index into [`Dataset::users`].
    pub user: u32,
    pub item: ItemIx,
    pub kind: EventKind,
    pub occurred_at: UnixMillis,
    pub value: f32,
    /// The logged slate this event belongs to and the zero-based slot in it. Present only where impressions were logged.
    pub slate: Option<SlateSlot>,
    pub context: Context,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlateSlot {
    pub slate: u32,
    pub position: u8,
}

/// Items, users and events, in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dataset {
    /// In the order of their dense numbers.
    pub items: Vec<Item>,
    pub users: Vec<Uid>,
    /// Parallel to `users`.
    pub attributes: Vec<UserAttributes>,
    /// Ordered by `occurred_at`; within one user, ties are in file order.
    pub events: Vec<DatasetEvent>,
    /// Where the format came with a test file: its events, apart from `events`.
    pub test: Vec<DatasetEvent>,
    /// Fingerprint of the subject key the users were made under.
    pub key_fingerprint: String,
    /// Name of the source, for protocols and reports.
    pub name: String,
}

impl Dataset {
    /// Name of the event at `index`: the same in every run on the same data, so that filling a log twice changes nothing.
    pub fn event_id(&self, index: usize) -> EventId {
        let mut name = String::with_capacity(48);
        name.extend(self.name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(40));
        name.push(':');
        name.push_str(&index.to_string());
        EventId::new(&name).expect("40 plain characters, a colon and digits are a valid id")
    }

    /// Name of a logged slate. Dated 1970: no decision log holds it.
    pub fn request_id(&self, slate: u32) -> RequestId {
        let mut hash = blake3::Hasher::new();
        hash.update(b"attune data set slate").update(self.name.as_bytes()).update(&slate.to_le_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&hash.finalize().as_bytes()[..10]);
        RequestId::new(0, random)
    }

    /// The event at `index` as a record of the event log, marked as imported. `None` past the end.
    pub fn logged_event(&self, index: usize, accepted_at: UnixMillis) -> Option<LoggedEvent> {
        let event = self.events.get(index)?;
        Some(LoggedEvent {
            uid: *self.users.get(event.user as usize)?,
            event_id: self.event_id(index),
            kind: event.kind,
            item_id: self.item_id(event.item)?,
            item: event.item,
            request_id: event.slate.map(|s| self.request_id(s.slate)),
            position: event.slate.map(|s| u32::from(s.position)),
            occurred_at: event.occurred_at,
            accepted_at,
            value: event.value,
            imported: true,
            in_decision: false,
            decided: None,
        })
    }

    fn item_id(&self, item: ItemIx) -> Option<ItemId> {
        self.items.get(item.index()).map(|i| i.id.clone())
    }
}
