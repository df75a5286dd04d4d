//! Things that tests of several crates need: a small trained world, and telemetry that can be read back.

pub mod telemetry;
pub mod world;
