//! Nine days of a simulated world: what the stream's metrics say is true of it, and the dashboards show it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::process::{Command, Stdio};

#[test]
fn the_metrics_of_the_stream_are_true_of_the_world() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_attune"));
    command.args(["eval", "stream", "--json", "--work"]).arg(dir.path().join("work"));
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let metrics = report["metrics"].as_array().unwrap();
    for metric in metrics {
        println!("{metric}");
    }
    assert!(output.status.success(), "{report:#}");
    // A number that nobody computes any more would not be missed by the platform itself.
    let told: Vec<&str> =
        metrics.iter().filter(|m| !m["truth"].is_null()).map(|m| m["metric"].as_str().unwrap()).collect();
    assert!(told.len() >= 60, "{told:?}");
    match report["panels"].as_array() {
        Some(panels) => assert!(panels.len() > 60, "{panels:?}"),
        None => eprintln!("skipped: the dashboards of the world: prometheus is not installed"),
    }
}
