//! Retrieval: candidates from several sources in parallel.

pub mod index;
pub mod text;
pub mod trending;
