//! What the shop says about a visitor.

use crate::records::Stated;
use attune_domain::UserState;

/// Replaces a visitor's attributes. Returns whether they are others than before.
///
/// An empty set takes them away, and makes no state where there was none: whoever erases a visitor writes one, so that
/// attributes from before cannot come back from their own topic.
pub(crate) fn apply(state: &mut UserState, (attributes, at): Stated) -> bool {
    let changed = state.attributes != attributes;
    state.attributes_at = at.filter(|_| !attributes.0.is_empty());
    state.attributes = attributes;
    changed
}
