//! `attune simulate`: simulated visitors walk through a running platform.

use crate::output::bad_usage;
use clap::Args;

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The edge's address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub edge: String,
}

pub fn run(_: SimulateArgs) -> anyhow::Result<()> {
    Err(bad_usage("not here yet"))
}
