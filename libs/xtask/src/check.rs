//! `cargo xtask check AREA`: checks against real tools that take minutes to build, so that the test command leaves them out.

mod lake;
mod process;
mod telemetry;

use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Check {
    /// Ask an embedded ClickHouse about an exported lake, and compute the answers anew
    Lake(lake::LakeArgs),
    /// Run the log pipeline on Flink, and traces through the Collector into Jaeger
    Telemetry(telemetry::TelemetryArgs),
}

pub(crate) fn run(check: Check) -> anyhow::Result<ExitCode> {
    match check {
        Check::Lake(args) => lake::run(&args),
        Check::Telemetry(args) => telemetry::run(&args),
    }
}
