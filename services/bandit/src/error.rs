//! Why a request got no slate.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BanditError {
    #[error("{field}: {problem}")]
    InvalidField { field: &'static str, problem: &'static str },
    /// Scores and base rates have to be of one model.
    #[error("model_version: this service has {serving}")]
    OtherModel { serving: String },
}

impl From<BanditError> for tonic::Status {
    fn from(error: BanditError) -> Self {
        let text = error.to_string();
        match error {
            BanditError::InvalidField { .. } => Self::invalid_argument(text),
            BanditError::OtherModel { .. } => Self::failed_precondition(text),
        }
    }
}
