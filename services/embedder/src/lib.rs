//! attune-embedder
