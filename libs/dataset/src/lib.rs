//! Data sets: what `attune import` writes, `attune train` and `attune eval` read, and a fresh state folder is filled from.
//!
//! Always holds: users are pseudonyms under one subject key; items are numbered densely; events are in log order.

use attune_domain::{Context, EventKind, Item, ItemIx, Uid, UnixMillis, UserAttributes};

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
#[derive(Debug, Clone, Default)]
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
