//! Puts the factors behind a recommendation into a sentence, and says no more than they do.
//!
//! Always holds: every valid request is answered, by the template if by nothing else; a generated sentence reaches the
//! caller only after the grounding check; nothing about a visitor is sent to a model; and neither prompts, answers nor
//! the api key are logged or traced.
//!
//! `factors` is what may be said, `template` says it without a model, `reason` asks a model under the guards (`budget`,
//! `breaker`, cache, concurrency), `screen` and `grounding` check what it says, `openai` and `sse` speak to it.

#![warn(clippy::disallowed_macros)]

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

use attune_proto::llm::v1::llm_service_server::LlmServiceServer;
use attune_runtime::{Exit, Host, OrExit as _, Service};
use attune_telemetry::{Clock, Telemetry};
pub use config::LlmConfig;
pub use error::LlmError;
pub use grpc::LlmGrpc;
use std::sync::Arc;
pub use telemetry::LlmMetrics;
use tonic::service::Routes;

/// A title, 32 categories and 32 factors with their evidence fit well; a longer request is refused unread.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// The use case, for a caller in the same process and for [`routes`].
pub fn reasoner(config: &LlmConfig, telemetry: &Telemetry, clock: Clock) -> Result<Arc<reason::Reasoner>, LlmError> {
    Ok(reason::Reasoner::new(config.backend()?, LlmMetrics::register(telemetry.metrics()), clock))
}

/// What the service serves, for a server of its own or a channel within the process.
pub fn routes(config: &LlmConfig, telemetry: &Telemetry, clock: Clock) -> Result<Routes, LlmError> {
    let service = LlmGrpc::new(reasoner(config, telemetry, clock)?);
    Ok(Routes::new(LlmServiceServer::new(service).max_decoding_message_size(MAX_REQUEST_BYTES)))
}

/// The service for a process of its own.
pub async fn build(config: LlmConfig, host: Host) -> anyhow::Result<Service> {
    Ok(Service::grpc(routes(&config, &host.telemetry, host.clock).or_exit(Exit::Usage)?))
}
