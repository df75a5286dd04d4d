//! attune-origin
