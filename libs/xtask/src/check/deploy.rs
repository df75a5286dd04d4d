//! `cargo xtask check deploy`: what operators deploy and load testers run, before the real tools that judge it.
//!
//! The tools are kept in `$ATTUNE_TOOLS`, or `~/.cache/attune-tools`, under their versions: the first run builds some of them
//! from Go's module registry, the next ones do not.

mod load;
mod steps;

use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use steps::Steps;

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// Which parts; all of them without it
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,
    /// The program to run; built when it is not named
    #[arg(long, value_name = "FILE")]
    attune: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Load tests: k6 and goose against a platform
    Load,
}

pub(crate) fn run(args: &DeployArgs) -> anyhow::Result<ExitCode> {
    let root = crate::root();
    let parts = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    let mut steps = Steps::default();
    for part in parts {
        match part {
            Part::Load => load::check(&mut steps, &root, args.attune.as_deref()),
        }
    }
    steps.report()
}
