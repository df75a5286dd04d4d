//! The words every part of Attune shares: identifiers, context, events, user state, catalogue, levels.
//!
//! Always holds: values are already valid (a [`ItemId`] is 1 to 128 bytes without control characters), nothing here
//! does I/O, reads a clock or draws a random number, and nothing here can hold a raw user id.
//! Wire types live in `attune-proto`, which converts to and from these.

mod catalogue;
mod context;
mod event;
mod ids;
mod level;
mod posterior;
mod state;

pub use catalogue::{Catalogue, Item, ItemUpdate, MAX_ATTRIBUTES, MAX_CATEGORIES};
pub use context::{Context, Device, Geo, PageType, Segment};
pub use event::{DecidedSlot, EventKind, LoggedEvent, SlotKind};
pub use ids::{
    BySpread, EventId, EventKey, Id, IdError, ItemId, ItemIx, ModelVersion, RequestId, SessionId, SpreadHasher, Uid,
};
pub use level::{CacheStatus, Level, LevelReason, Reason, Source, Tier, Variant};
pub use posterior::{PosteriorCounts, PosteriorSnapshot};
pub use state::{MAX_SEEN, SeenItem, StateVersion, UserAttributes, UserState, UserWindow, WINDOW_EVENTS, WindowEvent};

/// Milliseconds since the Unix epoch, UTC. Negative before 1970.
pub type UnixMillis = i64;
