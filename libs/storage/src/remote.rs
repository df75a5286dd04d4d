//! Stores over gRPC (`attune.storage.v1`): clients for processes that do not own them, servers for the one that does.
//!
//! Always holds: a call has a deadline; an error arrives as the one the owner gave; what another process sends is
//! checked before it is used. A call whose owner is away, or late, fails with [`StorageError::Unavailable`]; it is not
//! repeated here, since only the caller knows whether it may be.

mod client;
mod faults;
mod messages;
mod server;

pub use client::{RemoteEventLog, RemoteFeatureStore};
pub use server::{EventLogGrpc, FeatureStoreGrpc};

#[cfg(doc)]
use crate::StorageError;

/// Largest message either side takes: an append or read at its bound, with room for its frame, or a batch of effects.
const MAX_MESSAGE_BYTES: usize = 32 << 20;
