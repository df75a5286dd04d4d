//! A dashboard as it is committed: what grafana/dashboard-linter asks for, and queries that the catalogue can answer.

use super::promql::{self, Known, Place};
use serde_json::Value;
use std::collections::BTreeSet;

const VARIABLES: [&str; 5] = ["datasource", "region", "job", "instance", "pop"];

pub(super) fn problems(name: &str, dashboard: &Value, known: &Known) -> Vec<String> {
    let mut problems = Vec::new();
    let empty = Vec::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let variables = list(&dashboard["templating"]["list"]);
    let has = |wanted: &str| variables.iter().any(|variable| variable["name"] == wanted);
    problems.extend(
        VARIABLES.iter().filter(|variable| !has(variable)).map(|variable| format!("{name}: no variable {variable}")),
    );
    for key in ["title", "description", "uid"] {
        if text(&dashboard[key]).is_empty() {
            problems.push(format!("{name}: no {key}"));
        }
    }
    let mut titles = BTreeSet::new();
    let panels = dashboard["panels"].as_array().unwrap_or(&empty);
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = text(&panel["title"]);
        let place = format!("{name} / {title}");
        if title.is_empty() || !titles.insert(title) {
            problems.push(format!("{place}: no title, or one that another panel has"));
        }
        if !text(&panel["description"]).ends_with('.') {
            problems.push(format!("{place}: the description is no sentence"));
        }
        if text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty() {
            problems.push(format!("{place}: no unit"));
        }
        let targets = list(&panel["targets"]);
        if targets.is_empty() {
            problems.push(format!("{place}: no query"));
        }
        if [panel].into_iter().chain(&targets).any(|one| one["datasource"]["uid"] != "${datasource}") {
            problems.push(format!("{place}: the data source is not ${{datasource}}"));
        }
        for target in &targets {
            let expr = text(&target["expr"]);
            problems.extend(
                promql::problems(expr, Place::Dashboard, known).into_iter().map(|why| format!("{place}: {why}")),
            );
            problems.extend(promql::unchosen(expr).into_iter().map(|why| format!("{place}: {why}")));
            if text(&target["legendFormat"]).is_empty() {
                problems.push(format!("{place}: no legend"));
            }
        }
    }
    problems
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
