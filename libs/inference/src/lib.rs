//! Kernels that serve the models on the CPU.
//!
//! Always holds: a row's result never depends on the other rows of its batch, on the batch size or on the instruction
//! set. Every output is accumulated in one fixed order; only the number of outputs computed at once varies.
//! Training and the GPU path are candle's; candle's own matmul picks kernels by shape and so cannot promise this.

#![warn(clippy::disallowed_macros)]

mod compact;
mod dot;
mod highest;
mod isa;
mod math;
mod mlp;
mod multiversion;
mod sampling;
mod tile;

pub use compact::{CompactRows, Query};
pub use dot::{dot, gather_dot, score_rows};
pub use highest::Highest;
pub use isa::Isa;
pub use math::{exp, ln_1p, sigmoid};
pub use mlp::{Layer, Mlp, MlpError};
pub use sampling::{beta_draws, posterior_columns, sigmoid_lines};
