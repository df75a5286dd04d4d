//! attune-telemetry
