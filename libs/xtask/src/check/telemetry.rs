//! The telemetry kit against the real programs: the log pipeline's SQL on Flink, the Collector's configurations in the
//! Collector, the traces of seven processes through the Collector into Jaeger, and the dashboards over Prometheus.
//!
//! The programs are kept in `$ATTUNE_TOOLS`, or `~/.cache/attune-tools`, under their versions: the first run takes long, the
//! next ones do not. Java with Maven and Go must be there.

mod dashboards;
mod flink;
mod traces;

use super::process;
use crate::tools::go;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct TelemetryArgs {
    /// Which parts; all of them without it
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// The program to run; built when it is not named
    #[arg(long, value_name = "FILE")]
    attune: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The log pipeline's SQL, planned for its real tables and run on the golden lines
    Flink,
    /// The Collector takes its configurations
    Collector,
    /// Kept traces arrive in Jaeger whole
    Traces,
    /// What the dashboards ask Prometheus has answers
    Dashboards,
}

pub(crate) fn run(args: &TelemetryArgs) -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("find the repository")?;
    let tools = crate::tools::folder()?;
    std::fs::create_dir_all(&tools).with_context(|| format!("create {}", tools.display()))?;
    let parts = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    for part in parts {
        match part {
            Part::Flink => flink::check(root, &tools)?,
            Part::Collector => traces::check_configurations(root, &go::collector(root, &tools)?)?,
            Part::Traces => {
                let (collector, jaeger) = (go::collector(root, &tools)?, go::jaeger(&tools)?);
                traces::check(root, &collector, &jaeger, &process::attune(root, args.attune.as_deref())?)?;
            }
            Part::Dashboards => dashboards::check(&process::attune(root, args.attune.as_deref())?)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
