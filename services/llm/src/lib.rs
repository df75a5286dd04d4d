//! Puts the factors behind a recommendation into a sentence, and says no more than they do.
//!
//! Always holds: every valid request is answered, by the template if by nothing else; a generated sentence reaches the
//! caller only after the grounding check; nothing about a visitor is sent to a model; and neither prompts, answers nor
//! the api key are logged or traced.
//!
//! `factors` is what may be said, `template` says it without a model, `reason` asks a model under the guards (`budget`,
//! `breaker`, cache, concurrency), `screen` and `grounding` check what it says, `openai` and `sse` speak to it.

pub mod breaker;
pub mod budget;
pub mod config;
mod error;
pub mod factors;
pub mod generate;
pub mod grounding;
mod grpc;
pub mod openai;
pub mod prompt;
pub mod reason;
pub mod screen;
pub mod sse;
pub mod telemetry;
pub mod template;

use attune_telemetry::{Clock, Metrics};
pub use config::LlmConfig;
pub use error::LlmError;
pub use grpc::LlmGrpc;
use std::sync::Arc;
pub use telemetry::LlmMetrics;

/// The reasoner, for a caller in the same process and for [`LlmGrpc`].
pub fn reasoner(
    config: &LlmConfig,
    metrics: &Metrics,
    clock: Clock,
) -> Result<Arc<reason::Reasoner>, LlmError> {
    Ok(reason::Reasoner::new(config.backend()?, LlmMetrics::register(metrics), clock))
}
