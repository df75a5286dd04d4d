//! What the shop says about a visitor.

use attune_domain::{UserAttributes, UserState};

/// Replaces a visitor's attributes. Returns whether that changed anything.
///
/// An empty set takes them away, and makes no state where there was none: whoever erases a visitor writes one, so that
/// attributes from before cannot come back from their own topic.
pub(crate) fn apply(state: &mut UserState, attributes: UserAttributes) -> bool {
    let changed = state.attributes != attributes;
    state.attributes = attributes;
    changed
}
