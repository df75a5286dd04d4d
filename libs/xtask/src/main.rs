//! Tasks of the repository that are no part of the product: `cargo xtask help`.

mod bench;
mod cargo;
mod check;
mod cluster;
mod dashboards;
mod faults;
mod loadtest;
mod metrics;
mod reference;
mod tidy;
mod tools;

use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "xtask", about = "Tasks of this repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure the platform against its floors
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Check against real tools that take minutes to build
    #[command(subcommand)]
    Check(check::Check),
    /// Start a control plane of Kubernetes with simulated nodes
    Cluster(cluster::ClusterArgs),
    /// Write the Grafana dashboards
    Dashboards(dashboards::DashboardsArgs),
    /// Break the platform on Kafka and Redis under load, and compare what is left with what was acknowledged
    Faults(faults::FaultsArgs),
    /// Put a question of `loadtest/` to a platform, and write a report
    Loadtest(loadtest::LoadtestArgs),
    /// Write the table of metrics
    Metrics,
    /// Write the references of settings and of gRPC
    Reference,
    /// Check what the compiler does not see: rules, dashboards, runbooks and documents against the catalogue
    Tidy,
    /// Install real tools for tests, and print where they are
    Tools(tools::ToolsArgs),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Bench(bench) => bench::run(bench),
        Task::Check(check) => check::run(check),
        Task::Cluster(args) => cluster::run(&args),
        Task::Dashboards(args) => dashboards::run(&args),
        Task::Faults(args) => faults::run(&args),
        Task::Loadtest(args) => loadtest::run(&args),
        Task::Metrics => metrics::run(),
        Task::Reference => reference::run(),
        Task::Tidy => tidy::run(),
        Task::Tools(args) => tools::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints to the end, or until the reader has seen enough.
fn print(text: &str) -> std::io::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// The checkout that this was built in.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
