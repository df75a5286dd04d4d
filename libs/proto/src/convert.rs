//! Wire to domain and back. A conversion from the wire validates; one to the wire cannot fail.

mod state;

pub use state::{
    context, event, item, item_update, posterior_snapshot, user_attributes, user_attributes_to_wire, user_state,
};

/// A message from another process that is not what the contract says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct WireError {
    pub field: &'static str,
    pub problem: &'static str,
}

impl WireError {
    pub const fn new(field: &'static str, problem: &'static str) -> Self {
        Self { field, problem }
    }
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// Version of the records on `user-events` and `user-updates` that this program writes, and the newest that it reads.
pub const SCHEMA: u32 = 0;

/// A record of a newer version says things that this program would misread.
pub fn schema(schema: u32) -> Result<(), WireError> {
    if schema > SCHEMA { Err(WireError::new("schema", "is newer than this program knows")) } else { Ok(()) }
}

pub fn uid(bytes: &[u8]) -> Result<attune_domain::Uid, WireError> {
    attune_domain::Uid::from_slice(bytes).ok_or(WireError::new("uid", "must be 17 bytes"))
}

pub fn request_id(bytes: &[u8]) -> Result<attune_domain::RequestId, WireError> {
    attune_domain::RequestId::from_slice(bytes).ok_or(WireError::new("request_id", "must be 16 bytes"))
}
