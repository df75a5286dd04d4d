//! Process life: start, get ready, serve, drain, stop. Each service's `main.rs` hands over to [`run`].
//!
//! Always holds: nothing here is global but the allocator and a program's panic hook, so that one process can hold many
//! services; readiness is told before traffic is refused; draining has a time limit; and only [`run`] reads arguments,
//! handles signals or chooses an exit code.

#![warn(clippy::disallowed_macros)]

pub mod admin;
mod clock;
mod exit;
pub mod grpc;
mod incoming;
mod memory;
mod panics;
mod port;
mod program;
mod ready;
pub mod resources;
mod shutdown;

pub use attune_telemetry::Clock;
pub use clock::system_clock;
pub use exit::{Exit, Fatal, OrExit};
pub use panics::log_panics;
pub use port::ReservedPort;
pub use program::{Host, ProcessConfig, Program, Service, run, run_with};
pub use ready::{Condition, Ready};
pub use shutdown::Shutdown;
