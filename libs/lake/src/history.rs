//! What was known of a visitor at a moment.
//!
//! Always holds: a read as of a moment depends on nothing that was accepted at that moment or later, whatever time it
//! says it occurred at. Acceptance time is the platform's own clock; a late event may name any earlier time.

use crate::tables::Source;
use attune_domain::{LoggedEvent, StateVersion, UnixMillis, UserAttributes, UserState, WindowEvent};

/// A value with its two times and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Version<T> {
    pub value: T,
    /// When it is said to have happened.
    pub occurred_at: UnixMillis,
    /// When the platform came to know it; 0 where nobody noted that.
    pub accepted_at: UnixMillis,
    pub source: Source,
    /// Where it stands on its topic.
    pub offset: u64,
}

/// All versions that a visitor's state was ever made of.
#[derive(Debug, Clone, Default)]
pub struct History {
    events: Vec<Version<WindowEvent>>,
    attributes: Vec<Version<UserAttributes>>,
}

impl History {
    pub fn add_event(&mut self, offset: u64, event: &LoggedEvent) {
        self.events.push(Version {
            value: event.into(),
            occurred_at: event.occurred_at,
            accepted_at: event.accepted_at,
            source: Source::of(event.imported),
            offset,
        });
    }

    /// A shop's statement about a visitor says of no other time than that of its acceptance.
    pub fn add_attributes(&mut self, offset: u64, attributes: UserAttributes, accepted_at: UnixMillis, source: Source) {
        self.attributes.push(Version { value: attributes, occurred_at: accepted_at, accepted_at, source, offset });
    }

    /// In any order.
    pub fn events(&self) -> &[Version<WindowEvent>] {
        &self.events
    }

    pub fn attributes(&self) -> &[Version<UserAttributes>] {
        &self.attributes
    }

    /// Orders what was added, as reads want it.
    pub fn settle(&mut self) {
        self.events.sort_by_key(|version| (version.accepted_at, version.offset));
        self.attributes.sort_by_key(|version| (version.accepted_at, version.offset));
    }

    /// Reads at moments that do not go back.
    pub fn reader(&self) -> Reader<'_> {
        Reader { history: self, next: 0, events: 0, state: UserState::default() }
    }
}

/// Moves forward through a settled history.
pub struct Reader<'a> {
    history: &'a History,
    next: usize,
    events: u32,
    state: UserState,
}

/// What was known.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its version and watermark are those of a store that had applied just this.
    pub state: UserState,
    /// Events, impressions included, that it was made of.
    pub events: u32,
}

impl Reader<'_> {
    /// What had been accepted before `moment`.
    pub fn as_of(&mut self, moment: UnixMillis) -> View {
        while let Some(version) = self.history.events.get(self.next).filter(|v| v.accepted_at < moment) {
            self.next += 1;
            self.events += 1;
            let next = StateVersion { epoch: 0, next_offset: version.offset + 1 };
            self.state.version = self.state.version.max(next);
            self.state.watermark = self.state.watermark.max(Some(version.accepted_at));
            self.state.window.insert(version.value);
        }
        let known = self.history.attributes.partition_point(|v| v.accepted_at < moment);
        let newest = known.checked_sub(1).map(|newest| &self.history.attributes[newest]);
        self.state.attributes = newest.map(|version| version.value.clone()).unwrap_or_default();
        self.state.attributes_at = newest
            .filter(|version| !version.value.0.is_empty())
            .map(|version| version.accepted_at)
            .filter(|at| *at != 0);
        View { state: self.state.clone(), events: self.events }
    }
}
