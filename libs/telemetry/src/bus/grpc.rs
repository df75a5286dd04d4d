//! The bus over gRPC: one process hosts the hub, the others publish to it, and all but the edges listen to it.

mod hub;
mod spoke;
mod wire;

pub use hub::{DecisionHub, Subscription};
pub use spoke::{Listening, Spoke};
pub use wire::{decode, encode};
