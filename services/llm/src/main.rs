//! The llm service as a process of its own.

use attune_llm::config::DEFAULT_TOML;
use attune_llm::{LlmConfig, build};
use attune_runtime::{Program, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let program = Program {
        name: "llm",
        version: env!("CARGO_PKG_VERSION"),
        default_config: DEFAULT_TOML,
        process: |config: &LlmConfig| &config.process,
        check: LlmConfig::check,
        descriptors: attune_proto::DESCRIPTORS,
    };
    run(program, build)
}
