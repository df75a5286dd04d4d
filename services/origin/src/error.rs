//! Why the origin could not do what it was asked.

use attune_proto::convert::WireError;
use attune_rpc::{Code, Error};
use attune_storage::StorageError;

#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    #[error(transparent)]
    Invalid(#[from] WireError),
    #[error("the decision log does not hold this request id")]
    UnknownDecision,
    #[error("the visitor of this decision was erased")]
    Erased,
    #[error("the item is not in that decision")]
    NotInDecision,
    #[error("the catalogue does not hold this item")]
    UnknownItem,
    #[error("store")]
    Storage(#[from] StorageError),
    #[error("{service} is unavailable")]
    Dependency { service: &'static str },
}

impl OriginError {
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::Invalid,
            Self::Erased => Code::Erased,
            Self::UnknownDecision | Self::NotInDecision | Self::UnknownItem => Code::NotFound,
            Self::Storage(e) if e.is_retryable() => Code::Unavailable,
            Self::Storage(_) => Code::Internal,
            Self::Dependency { .. } => Code::Unavailable,
        }
    }
}

impl From<OriginError> for tonic::Status {
    fn from(error: OriginError) -> Self {
        Error::new(error.code(), error.to_string()).into()
    }
}
