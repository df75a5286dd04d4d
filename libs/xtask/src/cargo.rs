//! Programs of other packages, built and run by cargo.

use anyhow::Context as _;
use clap::Args;
use std::process::{Command, ExitCode};

#[derive(Debug, Args)]
pub(crate) struct CargoArgs {
    /// Arguments of the program itself; `--help` tells them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<String>,
}

/// Ends as the program does.
pub(crate) fn run(cargo: &[&str], args: &CargoArgs, environment: &[(&str, String)]) -> anyhow::Result<ExitCode> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(cargo).arg("--").args(&args.rest).current_dir(crate::root());
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    let status = command.status().context("run cargo")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
