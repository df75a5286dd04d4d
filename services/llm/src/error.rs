//! What can stop the service from starting. Once it runs, every request is answered.

use crate::openai::OpenAiError;

#[derive(Debug, thiserror::Error)]
pub enum LlmError {
    #[error("openai: {0}")]
    OpenAi(#[from] OpenAiError),
    #[error("prices: has no line for openai.model")]
    NoPrice,
    #[error("openai.model: is not a plain name")]
    ModelName,
}
