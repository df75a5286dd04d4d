//! The ranking service as a process of its own.

use attune_ranking::{DEFAULTS, RankingConfig, own};
use attune_runtime::{Program, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let program = Program {
        name: "ranking",
        version: env!("CARGO_PKG_VERSION"),
        default_config: DEFAULTS,
        process: |config: &RankingConfig| &config.process,
        check: RankingConfig::validate,
        descriptors: attune_proto::DESCRIPTORS,
    };
    run(program, own::service)
}
