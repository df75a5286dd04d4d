//! Every dashboard over a platform that visitors use: each query that must have data has data in a real Prometheus.

use super::process::{ask, platform};
use crate::dashboards;
use anyhow::{Context as _, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Prometheus scrapes every 15 s, and a rate needs two scrapes in its range.
const PATIENCE: Duration = Duration::from_secs(240);
const VISITORS: &str = "20";

pub(super) fn check(attune: &Path) -> anyhow::Result<()> {
    let work = tempfile::tempdir().context("create a folder")?;
    let more = ["--observe", "--visitors", VISITORS].map(str::as_ref);
    let (_platform, ready) = platform(attune, work.path(), &more)?;
    let host = |address: &Value| Some(address.as_str()?.strip_prefix("http://")?.to_owned());
    let edge = host(&ready["edge"]).context("find the edge")?;
    let prometheus = host(&ready["observe"]["prometheus"])
        .context("Prometheus was not started: `cargo xtask tools prometheus` installs it")?;

    let begun = Instant::now();
    let all = dashboards::queries();
    let mut missing: Vec<_> = all.iter().filter(|query| query.always).collect();
    while !missing.is_empty() && begun.elapsed() < PATIENCE {
        // Simulated visitors do not ask for reasons.
        for visitor in 0..10 {
            let page = json!({"user_id": format!("u{visitor}"), "limit": 5, "explain": true});
            let (status, answer) = ask(&edge, "POST", "/v1/personalize", &page.to_string())?;
            ensure!(status == 200, "a page was answered {status}: {answer}");
        }
        std::thread::sleep(Duration::from_secs(5));
        let mut still = Vec::new();
        for query in missing {
            if !has_data(&prometheus, &query.expr)? {
                still.push(query);
            }
        }
        missing = still;
        println!("dashboards: after {:.0} s {} queries have no data yet", begun.elapsed().as_secs_f64(), missing.len());
    }
    for query in &missing {
        println!("no data: {} | {} | {}", query.dashboard, query.panel, query.expr);
    }
    if !missing.is_empty() {
        bail!("{} queries of the dashboards have no data", missing.len());
    }
    let must = all.iter().filter(|query| query.always).count();
    println!("dashboards: all {must} queries that must have data have it; {} may be without", all.len() - must);
    Ok(())
}

/// A share of nothing is not a number, and is data.
fn has_data(prometheus: &str, expr: &str) -> anyhow::Result<bool> {
    let path = format!("/api/v1/query?query={}", utf8_percent_encode(expr, NON_ALPHANUMERIC));
    let (status, answer) = ask(prometheus, "GET", &path, "")?;
    ensure!(status == 200, "Prometheus answered {status} to {expr}: {answer}");
    let answer: Value = serde_json::from_str(&answer).context("read Prometheus' answer")?;
    Ok(answer["data"]["result"].as_array().is_some_and(|series| !series.is_empty()))
}
