//! Retrieval: candidates from several sources in parallel.

pub mod index;
