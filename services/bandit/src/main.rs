//! The bandit service as a process of its own.

use attune_bandit::{BanditConfig, DEFAULTS, own};
use attune_runtime::{Program, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let program = Program {
        name: "bandit",
        version: env!("CARGO_PKG_VERSION"),
        default_config: DEFAULTS,
        process: |config: &BanditConfig| &config.process,
        check: BanditConfig::validate,
        descriptors: attune_proto::DESCRIPTORS,
    };
    run(program, own::service)
}
