//! attune-model
