//! A visitor's state: a pure function of a set of events.
//!
//! Always holds: the same set of events gives the same state, whatever the order and however often each is applied
//! (given that no more than [`WINDOW_EVENTS`] arrive out of order). Vector, profile and counters are computed from it
//! by `attune-model`; nothing else about a visitor is stored.

use crate::{EventKey, EventKind, ItemIx, LoggedEvent, Segment, UnixMillis};

/// Interactions kept in a window.
pub const WINDOW_EVENTS: usize = 50;
/// Exact seen items kept; the longest unseen goes first.
pub const MAX_SEEN: usize = 2_000;

/// One interaction of the window. Impressions never enter it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowEvent {
    pub occurred_at: UnixMillis,
    pub key: EventKey,
    pub item: ItemIx,
    pub kind: EventKind,
    pub value: f32,
}

impl WindowEvent {
    fn order(&self) -> (UnixMillis, EventKey) {
        (self.occurred_at, self.key)
    }
}

/// An item the visitor interacted with, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenItem {
    pub item: ItemIx,
    /// In whole seconds, as it is stored: which item leaves a full set must not depend on when a state was reloaded.
    pub last_at: UnixMillis,
}

/// The last [`WINDOW_EVENTS`] interactions, oldest first by (occurred_at, key), and the seen items sorted by number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserWindow {
    events: Vec<WindowEvent>,
    seen: Vec<SeenItem>,
}

impl UserWindow {
    /// Adds an event; one that is already there, older than a full window, an impression or about an unknown item
    /// leaves the events as they are. Returns whether anything changed.
    pub fn insert(&mut self, event: WindowEvent) -> bool {
        if !event.kind.is_interaction() || !event.item.is_known() {
            return false;
        }
        let seen = self.mark_seen(event.item, event.occurred_at);
        let at = match self.events.binary_search_by(|e| e.order().cmp(&event.order())) {
            Ok(_) => return seen,
            Err(at) => at,
        };
        if self.events.len() == WINDOW_EVENTS {
            if at == 0 {
                return seen;
            }
            self.events.remove(0);
            self.events.insert(at - 1, event);
        } else {
            self.events.insert(at, event);
        }
        true
    }

    fn mark_seen(&mut self, item: ItemIx, at: UnixMillis) -> bool {
        let at = at.div_euclid(1000) * 1000;
        match self.seen.binary_search_by_key(&item, |s| s.item) {
            Ok(i) => {
                let newer = at > self.seen[i].last_at;
                self.seen[i].last_at = self.seen[i].last_at.max(at);
                newer
            }
            Err(i) => {
                self.seen.insert(i, SeenItem { item, last_at: at });
                if self.seen.len() > MAX_SEEN
                    && let Some(oldest) =
                        (0..self.seen.len()).min_by_key(|&i| (self.seen[i].last_at, self.seen[i].item))
                {
                    self.seen.remove(oldest);
                }
                true
            }
        }
    }

    /// Rebuilds a window from stored columns; order and uniqueness are restored, not trusted.
    pub fn from_parts(events: Vec<WindowEvent>, seen: Vec<SeenItem>) -> Self {
        let mut window = Self::default();
        let is_as_kept = seen.len() <= MAX_SEEN
            && seen.is_sorted_by(|a, b| a.item < b.item)
            && seen.iter().all(|s| s.last_at % 1000 == 0);
        if is_as_kept {
            window.seen = seen;
        } else {
            for s in seen {
                window.mark_seen(s.item, s.last_at);
            }
        }
        for event in events {
            window.insert(event);
        }
        window
    }

    /// Oldest first.
    pub fn events(&self) -> &[WindowEvent] {
        &self.events
    }

    /// Sorted by item number.
    pub fn seen(&self) -> &[SeenItem] {
        &self.seen
    }

    pub fn has_seen(&self, item: ItemIx) -> bool {
        self.seen.binary_search_by_key(&item, |s| s.item).is_ok()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub fn segment(&self) -> Segment {
        match self.events.len() {
            0 => Segment::New,
            1..=4 => Segment::Casual,
            5..=29 => Segment::Active,
            _ => Segment::Power,
        }
    }
}

impl From<&LoggedEvent> for WindowEvent {
    fn from(e: &LoggedEvent) -> Self {
        Self { occurred_at: e.occurred_at, key: e.key(), item: e.item, kind: e.kind, value: e.value }
    }
}

/// Facts that the shop states about a visitor (`PUT /v1/users/{id}`): name and value, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserAttributes(pub Vec<(String, String)>);

impl UserAttributes {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok().map(|i| self.0[i].1.as_str())
    }
}

/// Position in the log of the newest record applied to a state. Grows; comparable within one visitor.
/// The epoch counts partition layouts: it moves when the log's partitions are renumbered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateVersion {
    pub epoch: u32,
    /// One past the newest applied offset, so that 0 means nothing was applied.
    pub next_offset: u64,
}

/// Everything known about a visitor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserState {
    pub window: UserWindow,
    pub attributes: UserAttributes,
    /// When the shop stated them last, in the same words or others; none where nobody noted it.
    pub attributes_at: Option<UnixMillis>,
    pub version: StateVersion,
    /// Acceptance time of the newest event of this visitor that the state reflects.
    pub watermark: Option<UnixMillis>,
}

impl UserState {
    /// Applies a log record of this visitor. A record at or below the version is ignored, so replay is harmless.
    pub fn apply(&mut self, version: StateVersion, event: &LoggedEvent) -> bool {
        if version <= self.version {
            return false;
        }
        self.version = version;
        self.watermark = self.watermark.max(Some(event.accepted_at));
        self.window.insert(event.into());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(at: i64, item: u32) -> WindowEvent {
        WindowEvent {
            occurred_at: at,
            key: EventKey(at as u64 * 31 + u64::from(item)),
            item: ItemIx(item),
            kind: EventKind::Click,
            value: 1.0,
        }
    }

    proptest! {
        #[test]
        fn window_is_a_function_of_the_set(mut picks in prop::collection::vec((0i64..40, 0u32..20), 0..50), swaps in prop::collection::vec((0usize..50, 0usize..50), 0..80)) {
            let build = |list: &[(i64, u32)]| {
                let mut window = UserWindow::default();
                for &(at, item) in list {
                    window.insert(event(at, item));
                }
                window
            };
            let straight = build(&picks);
            let n = picks.len();
            for (a, b) in swaps {
                if n > 0 {
                    picks.swap(a % n, b % n);
                }
            }
            let twice: Vec<_> = picks.iter().chain(picks.iter()).copied().collect();
            prop_assert_eq!(build(&twice), straight);
        }
    }

    #[test]
    fn oldest_leaves_a_full_window_but_stays_seen() {
        let mut window = UserWindow::default();
        for i in 0..60 {
            window.insert(event(i, i as u32));
        }
        assert_eq!(window.events().len(), WINDOW_EVENTS);
        assert_eq!(window.events()[0].item, ItemIx(10));
        assert!(window.has_seen(ItemIx(0)));
        assert!(!window.insert(event(-5, 1)), "older than a full window, and its item is known");
    }

    #[test]
    fn impressions_and_unknown_items_do_not_enter() {
        let mut window = UserWindow::default();
        assert!(!window.insert(WindowEvent { kind: EventKind::Impression, ..event(1, 1) }));
        assert!(!window.insert(WindowEvent { item: ItemIx::UNKNOWN, ..event(1, 1) }));
        assert!(window.is_empty() && window.seen().is_empty());
    }
}
