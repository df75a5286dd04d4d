//! attune-inference
