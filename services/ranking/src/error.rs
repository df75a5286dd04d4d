//! Why a request got no scores.

use attune_rpc::Code;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RankingError {
    #[error("{field}: {problem}")]
    InvalidField { field: &'static str, problem: &'static str },
    /// The caller pins another model.
    #[error("model_version: this service has {serving}")]
    OtherModel { serving: String },
    #[error("too many calls are waiting")]
    Overloaded,
    #[error("deadline passed before the scores were there")]
    Late,
    #[error("model panicked")]
    Panicked,
}

impl RankingError {
    pub fn code(&self) -> Code {
        match self {
            Self::InvalidField { .. } => Code::Invalid,
            Self::OtherModel { .. } => Code::Precondition,
            Self::Overloaded => Code::Overloaded,
            Self::Late => Code::Late,
            Self::Panicked => Code::Internal,
        }
    }
}

impl From<RankingError> for tonic::Status {
    fn from(error: RankingError) -> Self {
        attune_rpc::Error::new(error.code(), error.to_string()).into()
    }
}
