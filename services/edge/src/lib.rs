//! attune-edge
