//! The origin service as a process of its own.

use attune_origin::{DEFAULT_CONFIG, OriginConfig, own};
use attune_runtime::{Program, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let program = Program {
        name: "origin",
        version: env!("CARGO_PKG_VERSION"),
        default_config: DEFAULT_CONFIG,
        process: |config: &OriginConfig| &config.process,
        check: OriginConfig::check,
        descriptors: attune_proto::DESCRIPTORS,
    };
    run(program, own::service)
}
