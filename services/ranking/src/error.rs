//! Why a request got no scores.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RankingError {
    #[error("{field}: {problem}")]
    InvalidField { field: &'static str, problem: &'static str },
    /// The caller pins another model.
    #[error("model_version: this service has {serving}")]
    OtherModel { serving: String },
    /// The caller has read more of the catalogue than this process.
    #[error("items: {item} is not in the catalogue yet")]
    Behind { item: u32 },
    #[error("too many calls are waiting")]
    Overloaded,
    #[error("deadline passed before the scores were there")]
    Late,
    #[error("model panicked")]
    Panicked,
}

impl From<RankingError> for tonic::Status {
    fn from(error: RankingError) -> Self {
        let text = error.to_string();
        match error {
            RankingError::InvalidField { .. } => Self::invalid_argument(text),
            RankingError::OtherModel { .. } => Self::failed_precondition(text),
            RankingError::Behind { .. } => Self::unavailable(text),
            RankingError::Overloaded => Self::resource_exhausted(text),
            RankingError::Late => Self::deadline_exceeded(text),
            RankingError::Panicked => Self::internal(text),
        }
    }
}
