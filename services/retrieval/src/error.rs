//! Why a request was refused, or the service could not be built.

use crate::index::WriteError;
use attune_rpc::Code;

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

impl RetrievalError {
    pub fn code(&self) -> Code {
        match self {
            Self::InvalidField { .. } => Code::Invalid,
            Self::OtherModel { .. } => Code::Precondition,
            Self::Index(_) | Self::Panicked => Code::Internal,
        }
    }
}

impl From<RetrievalError> for tonic::Status {
    fn from(error: RetrievalError) -> Self {
        attune_rpc::Error::new(error.code(), error.to_string()).into()
    }
}
