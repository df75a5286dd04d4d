//! `cargo xtask dashboards`: the Grafana dashboards of `observability/dashboards/`, rendered from definitions that take
//! their metrics from the catalogue. What is committed is compared with what would be rendered by `cargo xtask tidy`.

mod executive;
mod grafana;
mod ml;
mod operations;
pub(crate) mod panel;
mod query;
mod telemetry;

use anyhow::Context as _;
use clap::Args;
use panel::Dashboard;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct DashboardsArgs {
    /// Print every query as a line of JSON, with the variables filled in for all, instead of writing files
    #[arg(long)]
    queries: bool,
}

pub(crate) fn run(args: &DashboardsArgs) -> anyhow::Result<ExitCode> {
    if args.queries {
        for query in queries() {
            crate::print(&(serde_json::to_string(&query).context("write a query")? + "\n"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    for dashboard in all() {
        let path = file(&crate::root(), &dashboard);
        std::fs::write(&path, rendered(&dashboard)).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn all() -> [Dashboard; 4] {
    [executive::dashboard(), operations::dashboard(), ml::dashboard(), telemetry::dashboard()]
}

pub(crate) fn file(root: &Path, dashboard: &Dashboard) -> PathBuf {
    root.join(format!("observability/dashboards/{}.json", dashboard.name))
}

pub(crate) fn rendered(dashboard: &Dashboard) -> String {
    format!("{:#}\n", grafana::json(dashboard))
}

/// A query as Prometheus gets it.
#[derive(Debug, Serialize)]
pub(crate) struct AskedQuery {
    pub(crate) dashboard: &'static str,
    pub(crate) panel: &'static str,
    /// With the variables filled in for all.
    pub(crate) expr: String,
    /// False where a value may rightly be absent: the metric needs hardware, an engine, or samples.
    pub(crate) always: bool,
}

pub(crate) fn queries() -> Vec<AskedQuery> {
    let of_panel = |dashboard: &Dashboard, panel: &panel::Panel| {
        let asked = |query: &panel::Query| AskedQuery {
            dashboard: dashboard.name,
            panel: panel.title,
            expr: query::filled_in(&query.expr),
            always: crate::tidy::always_there(&query.expr),
        };
        panel.queries.iter().map(asked).collect::<Vec<_>>()
    };
    all().iter().flat_map(|dashboard| dashboard.panels().flat_map(|panel| of_panel(dashboard, panel))).collect()
}
