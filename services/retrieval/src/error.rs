//! Why a request was refused, or the service could not be built.

use crate::index::WriteError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetrievalError {
    #[error("{field}: {problem}")]
    InvalidField { field: &'static str, problem: &'static str },
    /// The caller's vectors and numbers belong to another model.
    #[error("model_version: this service has {serving}")]
    OtherModel { serving: String },
    #[error("build index")]
    Index(#[from] WriteError),
    #[error("index build panicked")]
    Panicked,
}

impl From<RetrievalError> for tonic::Status {
    fn from(error: RetrievalError) -> Self {
        let text = error.to_string();
        match error {
            RetrievalError::InvalidField { .. } => Self::invalid_argument(text),
            RetrievalError::OtherModel { .. } => Self::failed_precondition(text),
            RetrievalError::Index(_) | RetrievalError::Panicked => Self::internal(text),
        }
    }
}
