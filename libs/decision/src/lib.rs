//! attune-decision
