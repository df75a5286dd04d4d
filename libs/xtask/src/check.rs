//! `cargo xtask check AREA`: checks against real tools that take minutes to build, so that the test command leaves them out.

mod telemetry;

use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Check {
    /// Run the log pipeline on Flink, and traces through the Collector into Jaeger
    Telemetry(telemetry::TelemetryArgs),
}

pub(crate) fn run(check: Check) -> anyhow::Result<ExitCode> {
    match check {
        Check::Telemetry(args) => telemetry::run(&args),
    }
}
