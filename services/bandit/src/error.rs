//! Why a request got no slate.

use attune_rpc::Code;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BanditError {
    #[error("{field}: {problem}")]
    InvalidField { field: &'static str, problem: &'static str },
    /// Scores and base rates have to be of one model.
    #[error("model_version: this service has {serving}")]
    OtherModel { serving: String },
}

impl BanditError {
    pub fn code(&self) -> Code {
        match self {
            Self::InvalidField { .. } => Code::Invalid,
            Self::OtherModel { .. } => Code::Precondition,
        }
    }
}

impl From<BanditError> for tonic::Status {
    fn from(error: BanditError) -> Self {
        attune_rpc::Error::new(error.code(), error.to_string()).into()
    }
}
