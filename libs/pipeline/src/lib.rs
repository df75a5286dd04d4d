//! attune-pipeline
