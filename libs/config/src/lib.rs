//! attune-config
