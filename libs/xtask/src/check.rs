//! `cargo xtask check AREA`: checks against real tools that take minutes to build, so that the test command leaves them out.

mod deploy;
mod lake;
pub(crate) mod process;
mod telemetry;

use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Check {
    /// Put the charts, modules, images, contracts and load tests before the tools that judge them
    Deploy(deploy::DeployArgs),
    /// Ask an embedded ClickHouse about an exported lake, and compute the answers anew
    Lake(lake::LakeArgs),
    /// Run the log pipeline on Flink, and traces through the Collector into Jaeger
    Telemetry(telemetry::TelemetryArgs),
}

pub(crate) fn run(check: Check) -> anyhow::Result<ExitCode> {
    match check {
        Check::Deploy(args) => deploy::run(&args),
        Check::Lake(args) => lake::run(&args),
        Check::Telemetry(args) => telemetry::run(&args),
    }
}
