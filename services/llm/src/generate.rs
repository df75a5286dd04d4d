//! What a model back-end is, whichever it is.

use crate::budget::Tokens;
use crate::prompt::Prompt;
use futures::stream::BoxStream;

/// A step of an answer being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Generated {
    /// Text to append; may be empty, which still shows that the model is working.
    Text(String),
    End(Ended),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub finish: Finish,
    /// As counted by the back-end, if it says.
    pub usage: Option<Tokens>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    Stop,
    Length,
    /// The back-end refuses to say more.
    Filtered,
}

impl Finish {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Filtered => "content_filter",
        }
    }
}

/// Holds no text that came from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    #[error("cannot reach the model server")]
    Unreachable,
    #[error("the model server has too many requests")]
    RateLimited,
    #[error("the model server answered with status {0}")]
    Status(u16),
    #[error("the model server reported an error in its stream")]
    Reported,
    #[error("the model server broke off")]
    CutOff,
    #[error("the model server's answer is not understood: {0}")]
    Malformed(&'static str),
}

/// A model that continues a prompt. The stream is lazy, holds one call, ends after [`Generated::End`] or an error, and
/// stops the call when it is dropped.
pub trait Generator: Send + Sync {
    fn model(&self) -> &str;

    fn max_output_tokens(&self) -> u32;

    fn generate(&self, prompt: &Prompt) -> BoxStream<'static, Result<Generated, GenerateError>>;
}
