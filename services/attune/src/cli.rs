//! Arguments of every command, and the exit code of all.

use crate::drill::DrillArgs;
use crate::eval::EvalArgs;
use crate::export::ExportArgs;
use crate::import::ImportArgs;
use crate::model::ModelArgs;
use crate::output;
use crate::rebuild::RebuildArgs;
use crate::replay::ReplayArgs;
use crate::service::ServiceArgs;
use crate::simulate::SimulateArgs;
use crate::trace::TraceArgs;
use crate::train::TrainArgs;
use crate::up::UpArgs;
use attune_runtime::{Exit, Fatal};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// An edge-to-origin personalization platform.
#[derive(Debug, Parser)]
#[command(name = "attune", version, disable_help_subcommand = true, arg_required_else_help = false)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole platform
    Up(UpArgs),
    /// Turn somebody's history into a data set
    Import(ImportArgs),
    /// Write what the platform knows as Parquet, by table and hour; run again, it adds what is new
    Export(ExportArgs),
    /// Train a model bundle on a data set
    Train(TrainArgs),
    /// Measure quality, beside random and popularity, with the protocol
    #[command(arg_required_else_help = false)]
    Eval(EvalArgs),
    /// Run logged decisions again, and name the first stage that differs
    Replay(ReplayArgs),
    /// Compute anew what is computed from the event log, while the platform is stopped
    Rebuild(RebuildArgs),
    /// Show the trace that was kept of a request, and its decision
    Trace(TraceArgs),
    /// Look at model bundles
    #[command(arg_required_else_help = false)]
    Model(ModelArgs),
    /// Send simulated visitors through a running platform and watch what it learns
    Simulate(SimulateArgs),
    /// Break a platform of its own in a known way, until an alert's expression is true and the cause is named
    Drill(DrillArgs),
    /// One service of `up --separate`
    #[command(hide = true)]
    Service(ServiceArgs),
}

/// The whole program: arguments, command, exit code.
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) if error.use_stderr() => {
            output::note(&format!("attune: {}", usage_line(&error)));
            return ExitCode::from(Exit::Usage as u8);
        }
        Err(wanted) => {
            // Help or the version. Nobody is left to tell if printing fails.
            let _ = wanted.print();
            return ExitCode::SUCCESS;
        }
    };
    let result = match command {
        Command::Up(args) => crate::up::run(args),
        Command::Service(args) => return crate::service::run(args),
        Command::Import(args) => crate::import::run(&args),
        Command::Export(args) => crate::export::run(&args),
        Command::Train(args) => crate::train::run(&args),
        Command::Eval(args) => crate::eval::run(&args),
        Command::Rebuild(args) => crate::rebuild::run(&args),
        Command::Replay(args) => crate::replay::run(&args),
        Command::Trace(args) => crate::trace::run(&args),
        Command::Model(args) => crate::model::run(&args),
        Command::Simulate(args) => crate::simulate::run(args),
        Command::Drill(args) => crate::drill::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("attune: {}", output::one_line(&error)));
            ExitCode::from(Fatal::code_of(&error) as u8)
        }
    }
}

/// What clap says over several lines, in one: the mistake, then the hint, without the usage.
fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut parts = Vec::new();
    for paragraph in text.split("\n\n") {
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() || line.starts_with("Usage:") || line.starts_with("For more information") {
            continue;
        }
        parts.push(line.strip_prefix("error: ").unwrap_or(&line).to_owned());
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_one_line_that_names_it() {
        for (arguments, wanted) in [
            (vec!["attune"], "requires a subcommand"),
            (vec!["attune", "model"], "requires a subcommand"),
            (vec!["attune", "import", "x", "--form", "csv"], "'--form'"),
            (vec!["attune", "import", "x"], "--to <DIR>"),
            (vec!["attune", "import", "x", "--to", "y", "--from", "xml"], "movielens"),
            (vec!["attune", "train", "--data", "x"], "--out <DIR>"),
            (vec!["attune", "simulate", "--seed", "-1"], "-1"),
            (vec!["attune", "simulate", "--rate", "0"], "--rate"),
            (vec!["attune", "simulate", "--duration", "soon"], "--duration"),
            (vec!["attune", "rebuild"], "--state <DIR>"),
            (vec!["attune", "rebuild", "--state", "x", "--from", "noon"], "a time such as"),
            (vec!["attune", "trace"], "<REQUEST_OR_TRACE_ID>"),
            (vec!["attune", "trace", "--last", "0"], "--last"),
            (vec!["attune", "trace", "x", "--last", "1"], "--last"),
            (vec!["attune", "export"], "--to <DIR>"),
            (vec!["attune", "export", "--to", "x", "--table", "clicks"], "impressions"),
            (vec!["attune", "export", "--to", "x", "--since", "10:30"], "--since"),
            (vec!["attune", "export", "--to", "x", "--since", "2026-01-29T10:30:00Z"], "whole hour"),
            (vec!["attune", "import", "x", "--to", "y", "--state", "z"], "--state"),
            (vec!["attune", "drill"], "<NAME>"),
            (vec!["attune", "drill", "flood"], "silent-drift"),
            (vec!["attune", "frobnicate"], "'frobnicate'"),
        ] {
            let error = Cli::try_parse_from(&arguments).unwrap_err();
            let line = usage_line(&error);
            assert!(error.use_stderr() && line.contains(wanted), "{arguments:?}: {line}");
            assert!(!line.contains('\n') && !line.contains("Usage"), "{line}");
        }
    }
}
