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
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct DashboardsArgs {
    /// Print every query as a line of JSON, with the variables filled in for all, instead of writing files
    #[arg(long)]
    queries: bool,
}

pub(crate) fn run(args: &DashboardsArgs) -> anyhow::Result<ExitCode> {
    for dashboard in all() {
        if args.queries {
            dashboard.panels().for_each(|panel| print_queries(&dashboard, panel));
            continue;
        }
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

/// `always` is false where a value may rightly be absent: the metric needs hardware, an engine, or samples.
fn print_queries(dashboard: &Dashboard, panel: &panel::Panel) {
    for query in &panel.queries {
        let expr = query::filled_in(&query.expr);
        let always = crate::tidy::always_there(&query.expr);
        let line = serde_json::json!({
            "dashboard": dashboard.name, "panel": panel.title, "expr": expr, "always": always,
        });
        println!("{line}");
    }
}
