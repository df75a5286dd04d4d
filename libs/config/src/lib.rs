//! Layered configuration: compiled-in file, then `--config` file, then environment, then flags.
//!
//! Always holds: a value that leaves [`load`] came through the type's own checks, unknown keys were refused, and every
//! problem that could be found is reported at once, each with its path and where it was written.
//! This is the only crate that reads the environment. What a key means belongs to the crate that owns the struct.

mod layers;
mod values;

pub use layers::{ConfigError, Problem, Problems, load, load_checked, print_config};
pub use values::{ByteSize, HumanDuration, Secret};
