//! attune-retrieval
