//! attune-runtime
