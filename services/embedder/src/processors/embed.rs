//! Windows: what a visitor's vector, profile and counters are computed from.

use attune_domain::{LoggedEvent, StateVersion, UserState};

/// Version of a state that reflects the record at `offset`.
pub(crate) fn version_after(offset: u64) -> StateVersion {
    StateVersion { epoch: 0, next_offset: offset + 1 }
}

/// Applies an event to its visitor's state. Returns whether it was new to it.
pub(crate) fn apply(state: &mut UserState, offset: u64, event: &LoggedEvent) -> bool {
    state.apply(version_after(offset), event)
}
