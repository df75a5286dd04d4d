//! The `attune` command line: import, train, look at models, send simulated visitors through a platform.
//!
//! Always holds: results go to stdout and everything else to stderr; a mistake is one line and one exit code of
//! `attune_runtime::Exit`; and only this crate sees all services.

#![warn(clippy::disallowed_macros)]

mod about;
pub mod cli;
pub mod drill;
pub mod eval;
pub mod export;
mod fill;
pub mod import;
pub mod model;
mod observe;
pub mod output;
mod places;
mod platform;
mod rebuild;
pub mod replay;
mod separate;
mod service;
mod settings;
pub mod simulate;
mod state;
mod trace;
pub mod train;
mod up;
