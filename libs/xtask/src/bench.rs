//! `cargo xtask bench`: the platform's speed beside a peer's, on the same bytes, in the same run.
//!
//! Protocol: servers on core 0, load on core 1, rounds interleaved, CPU time from the kernel's own accounts. What an
//! answer costs includes what it leaves behind: a round ends when the server is idle again.

mod constant;
mod load;
mod main_bench;
mod metrics;
mod overhead;
mod prepare;
mod report;
mod roofline;
mod servers;
mod stats;
mod workload;

use crate::cargo::CargoArgs;
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Hits beside nginx's cache and a constant answer, misses, stages, memory
    Main(main_bench::MainArgs),
    /// What recording costs: telemetry full against off, and the recorder's own benches
    Telemetry(overhead::OverheadArgs),
    /// Events at a rate on Kafka and Redis and on the embedded engines: how soon answers show them, what they cost
    #[command(disable_help_flag = true)]
    Streaming(CargoArgs),
    /// One side of a bench: the load generator
    #[command(hide = true)]
    Load(load::LoadArgs),
    /// One side of a bench: a server that has its answers ready
    #[command(hide = true)]
    Constant(constant::ConstantArgs),
}

pub(crate) fn run(bench: Bench) -> anyhow::Result<ExitCode> {
    match bench {
        Bench::Main(args) => main_bench::run(&args),
        Bench::Telemetry(args) => overhead::run(&args),
        Bench::Streaming(args) => {
            crate::cargo::run(&["bench", "--package", "attune", "--bench", "streaming"], &args, &[])
        }
        Bench::Load(args) => load::run(&args).map(|()| ExitCode::SUCCESS),
        Bench::Constant(args) => constant::run(&args).map(|()| ExitCode::SUCCESS),
    }
}

/// Progress, beside the result.
fn say(text: &str) {
    eprintln!("bench: {text}");
}
