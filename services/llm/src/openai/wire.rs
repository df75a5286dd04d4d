//! The JSON of the chat completions protocol, as far as it is needed.

use super::TokenLimitField;
use crate::budget::Tokens;
use crate::generate::{Ended, Finish, GenerateError, Generated};
use crate::prompt::Prompt;
use serde::Deserialize;
use serde::de::IgnoredAny;

pub(super) fn request(
    model: &str,
    prompt: &Prompt,
    max_output_tokens: u32,
    limit_field: TokenLimitField,
    temperature: Option<f64>,
) -> Vec<u8> {
    let mut body = serde_json::json!({
        "model": model,
        "messages": [
            { "role": "system", "content": prompt.system },
            { "role": "user", "content": prompt.user },
        ],
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let limit = match limit_field {
        TokenLimitField::MaxTokens => "max_tokens",
        TokenLimitField::MaxCompletionTokens => "max_completion_tokens",
    };
    body[limit] = max_output_tokens.into();
    if let Some(temperature) = temperature {
        body["temperature"] = temperature.into();
    }
    body.to_string().into_bytes()
}

/// One event of a streamed answer. Servers add fields, and leave out those that are empty.
#[derive(Deserialize)]
pub(super) struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Message>,
    message: Option<Message>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
}

/// What a chunk adds.
pub(super) struct Step {
    /// None when the chunk has no choice: usage only, or a sign of life.
    pub(super) text: Option<String>,
    pub(super) finish: Option<Finish>,
    pub(super) usage: Option<Tokens>,
}

impl Chunk {
    pub(super) fn step(self) -> Result<Step, GenerateError> {
        if self.error.is_some() {
            return Err(GenerateError::Reported);
        }
        let usage = self.usage.map(|u| Tokens { input: u.prompt_tokens, output: u.completion_tokens });
        let Some(choice) = self.choices.into_iter().next() else {
            return Ok(Step { text: None, finish: None, usage });
        };
        let message = choice.delta.or(choice.message);
        let refused = message.as_ref().is_some_and(|m| m.refusal.is_some());
        let finish = match choice.finish_reason.as_deref() {
            _ if refused => Some(Finish::Filtered),
            None | Some("") => None,
            Some("length") => Some(Finish::Length),
            Some("content_filter") => Some(Finish::Filtered),
            Some(_) => Some(Finish::Stop),
        };
        Ok(Step { text: Some(message.and_then(|m| m.content).unwrap_or_default()), finish, usage })
    }
}

/// An answer that was not streamed: the same, with everything in one chunk.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Whole(Chunk);

impl Whole {
    pub(super) fn steps(self) -> Result<[Generated; 2], GenerateError> {
        let step = self.0.step()?;
        let text = step.text.ok_or(GenerateError::Malformed("no choice"))?;
        let ended = Ended { finish: step.finish.unwrap_or(Finish::Stop), usage: step.usage };
        Ok([Generated::Text(text), Generated::End(ended)])
    }
}
