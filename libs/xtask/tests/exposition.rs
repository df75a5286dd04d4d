//! What services expose, under the real promtool.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_telemetry::catalogue::Service;
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::grpc::GrpcServerLayer;
use attune_telemetry::{EdgeRed, Label as _, LogTarget, ServiceInfo, Telemetry, TelemetryConfig};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Where `cargo xtask tools` or the system installed it.
fn promtool() -> Option<PathBuf> {
    let asked = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["tools", "--offline", "promtool"]).output().unwrap();
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    let installed = said.trim().strip_prefix("promtool").map(|path| PathBuf::from(path.trim()));
    let found = installed.filter(|_| asked.status.success()).unwrap_or_else(|| "promtool".into());
    Command::new(&found).arg("--version").output().ok().map(|_| found)
}

#[test]
fn promtool_accepts_every_metric() {
    let Some(promtool) = promtool() else {
        eprintln!("skipped: promtool_accepts_every_metric: promtool is not installed");
        return;
    };
    let config = TelemetryConfig { logs: LogTarget::Off, ..TelemetryConfig::default() };
    let info = |service| ServiceInfo { service, version: "1", instance: "i".into() };
    let (edge, _guard) = Telemetry::start(&config, info("edge"), Arc::new(|| 1_769_682_600_123)).unwrap();
    let mut services = vec![edge.clone()];
    services.extend(Service::all().iter().skip(1).map(|service| edge.service(info(service.text()))));
    EdgeRed::new(&edge, "sfo");
    services.iter().for_each(|service| drop(GrpcServerLayer::new(service)));

    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(encode(&services, Format::Text).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.trim().is_empty() && output.status.success(), "{said}");
}
