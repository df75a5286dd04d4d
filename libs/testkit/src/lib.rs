//! attune-testkit
