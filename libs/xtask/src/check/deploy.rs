//! `cargo xtask check deploy`: what operators deploy and load testers run, before the real tools that judge it.
//!
//! The tools are kept in `$ATTUNE_TOOLS`, or `~/.cache/attune-tools`, under their versions: the first run builds some of them
//! from Go's module registry, the next ones do not.

mod alerts;
mod api;
mod cluster;
mod helm;
mod images;
mod load;
mod steps;
mod terraform;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
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
    /// OpenAPI document, protos, and the references written from sources
    Api,
    /// Rules, their tests and the routes of alerts
    Alerts,
    /// Dockerfile, bake file, a packaged program, and the layers of Compose
    Images,
    /// The chart, rendered and judged without a cluster
    Helm,
    /// The chart on a control plane with simulated nodes
    Cluster,
    /// The modules against the schemas of their providers, and the part of Kubernetes on a control plane
    Terraform,
    /// Load tests: k6 and goose against a platform
    Load,
}

pub(crate) fn run(args: &DeployArgs) -> anyhow::Result<ExitCode> {
    let root = crate::root();
    let parts = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    let mut steps = Steps::default();
    for part in parts {
        match *part {
            Part::Api => api::run(&root, args.attune.as_deref(), &mut steps)?,
            Part::Alerts => alerts::run(&mut steps, &root),
            Part::Images => images::run(&root, args.attune.as_deref(), &mut steps)?,
            Part::Helm => helm::run(&mut steps, &root, args.attune.as_deref()),
            Part::Cluster => cluster::run(&mut steps, &root),
            Part::Terraform => terraform::run(&mut steps, &root),
            Part::Load => load::check(&mut steps, &root, args.attune.as_deref()),
        }
    }
    steps.report()
}

/// That a tool refuses what is wrong, and says the word. A check that takes everything shows nothing.
fn refused(command: &mut Command, what: &str, word: &str) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        bail!("{what} was taken");
    }
    if !said.contains(word) {
        bail!("{what} was refused without a word of {word}: {}", said.trim());
    }
    Ok(())
}
