//! attune-storage
