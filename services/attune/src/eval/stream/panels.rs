//! Whether the dashboards that people look at have something to show.

pub(super) use crate::observe::prometheus::Prometheus;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// How often Prometheus looks.
pub(super) const EVERY: Duration = Duration::from_secs(1);

const DASHBOARDS: [&str; 2] = [
    include_str!("../../../../../observability/dashboards/executive.json"),
    include_str!("../../../../../observability/dashboards/ml.json"),
];

/// A query of a panel, and how many series with a number it has.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) expression: String,
    pub(super) series: usize,
}

/// Asks every query of both dashboards that applies.
pub(super) async fn ask(prometheus: &Prometheus) -> anyhow::Result<Vec<Panel>> {
    // The last values are looked at twice.
    tokio::time::sleep(3 * EVERY).await;
    let mut panels = Vec::new();
    for dashboard in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(dashboard).context("read a dashboard")?;
        for (title, expression) in queries(&dashboard) {
            let expression = filled(expression);
            let found = prometheus.query(&expression).await?;
            let series = found.iter().filter(|sample| sample.value.is_finite()).count();
            panels.push(Panel { title: title.to_owned(), expression, series });
        }
    }
    Ok(panels)
}

fn queries(dashboard: &Value) -> impl Iterator<Item = (&str, &str)> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let queries = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.filter_map(move |target| Some((panel["title"].as_str()?, target["expr"].as_str()?)))
    });
    // This platform has no language model.
    queries.filter(|(_, expression)| !expression.contains("llm_"))
}

/// As Grafana asks with everything chosen.
fn filled(expression: &str) -> String {
    ["$region", "$job", "$instance", "$pop"]
        .iter()
        .fold(expression.replace("$__rate_interval", "1m"), |text, variable| text.replace(variable, ".*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_of_the_dashboards_is_known() {
        for dashboard in DASHBOARDS {
            let dashboard: Value = serde_json::from_str(dashboard).unwrap();
            let all: Vec<String> = queries(&dashboard).map(|(_, expression)| filled(expression)).collect();
            assert!(all.len() > 10);
            all.iter().for_each(|expression| assert!(!expression.contains('$'), "{expression}"));
        }
    }
}
