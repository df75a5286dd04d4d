//! The embedder as a process of its own.

use attune_embedder::{DEFAULTS, EmbedderConfig, own};
use attune_runtime::{Program, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let program = Program {
        name: "embedder",
        version: env!("CARGO_PKG_VERSION"),
        default_config: DEFAULTS,
        process: |config: &EmbedderConfig| &config.process,
        check: EmbedderConfig::check,
        descriptors: attune_proto::DESCRIPTORS,
    };
    run(program, own::service)
}
