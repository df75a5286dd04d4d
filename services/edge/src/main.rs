//! The edge service as a process of its own.

use attune_edge::{DEFAULT_CONFIG, EdgeConfig, own};
use attune_runtime::{Program, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let program = Program {
        name: "edge",
        version: env!("CARGO_PKG_VERSION"),
        default_config: DEFAULT_CONFIG,
        process: |config: &EdgeConfig| &config.process,
        check: EdgeConfig::check,
        descriptors: attune_proto::DESCRIPTORS,
    };
    run(program, own::service)
}
