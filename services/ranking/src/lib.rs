//! attune-ranking
