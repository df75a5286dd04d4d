//! `cargo xtask faults`: the fault test of the platform on real engines, as often as asked.

use crate::cargo::{self, CargoArgs};
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct FaultsArgs {
    /// Faults of a run, one of each kind first
    #[arg(long, default_value_t = 50)]
    faults: u64,
    /// Repeats a run whose test printed this seed
    #[arg(long)]
    seed: Option<u64>,
    /// Run the drills of the runbooks instead: all of them, or those named, as in silent-drift,latency
    #[arg(long, value_name = "NAMES", num_args = 0..=1, default_missing_value = "all", conflicts_with_all = ["faults", "seed"])]
    drills: Option<String>,
}

pub(crate) fn run(args: &FaultsArgs) -> anyhow::Result<ExitCode> {
    if let Some(drills) = &args.drills {
        let test = ["test", "--release", "--package", "attune", "--test", "drill", "--test", "staleness"];
        let environment = [("ATTUNE_DRILLS", drills.clone())];
        return cargo::run(&test, &CargoArgs { rest: vec!["--nocapture".to_owned()] }, &environment);
    }
    let mut environment = vec![("ATTUNE_FAULTS", args.faults.to_string()), ("ATTUNE_REQUIRE_ENGINES", "1".to_owned())];
    environment.extend(args.seed.map(|seed| ("ATTUNE_TEST_SEED", seed.to_string())));
    let test = ["test", "--release", "--package", "attune", "--test", "faults"];
    cargo::run(&test, &CargoArgs { rest: vec!["--nocapture".to_owned()] }, &environment)
}
