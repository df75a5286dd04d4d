//! The retrieval service as a process of its own.

use attune_retrieval::{DEFAULTS, RetrievalConfig, own};
use attune_runtime::{Program, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let program = Program {
        name: "retrieval",
        version: env!("CARGO_PKG_VERSION"),
        default_config: DEFAULTS,
        process: |config: &RetrievalConfig| &config.process,
        check: RetrievalConfig::validate,
        descriptors: attune_proto::DESCRIPTORS,
    };
    run(program, own::service)
}
