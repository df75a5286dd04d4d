//! attune-dataset
