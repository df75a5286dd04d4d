//! `cargo xtask tidy`: what belongs together and lies in different files. Every check is a test as well.

mod alerts;
mod documents;
mod grafana;
mod promql;
mod rules;

pub(crate) use promql::always_there;

use anyhow::Context as _;
use promql::Known;
use rules::Rules;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let problems = problems(&crate::root())?;
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong in the checkout, a line each. An error is a file that cannot be read.
fn problems(root: &Path) -> anyhow::Result<Vec<String>> {
    let rules = Rules::read(root)?;
    let known = Known::new(&rules);
    let mut problems = rules.problems(&known);
    problems.extend(alerts::problems(root, &rules.all)?);
    problems.extend(rules.without_panel(&crate::dashboards::all()));
    problems.extend(rules.scrape_limits());
    for dashboard in crate::dashboards::all() {
        let file = crate::dashboards::file(root, &dashboard);
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        if text != crate::dashboards::rendered(&dashboard) {
            problems.push(format!("{}: is not what `cargo xtask dashboards` writes", dashboard.name));
        }
        let json = serde_json::from_str(&text).with_context(|| format!("parse {}", file.display()))?;
        problems.extend(grafana::problems(dashboard.name, &json, &known));
    }
    problems.extend(documents::problems(root, &known)?);
    problems.extend(crate::reference::stale(root)?);
    Ok(problems)
}

#[cfg(test)]
mod tests;
