//! `cargo xtask metrics`: `docs/metrics.md`, the catalogue as a table. What is committed is compared with what would be
//! rendered by `cargo xtask tidy`.

use anyhow::Context as _;
use attune_telemetry::Label as _;
use attune_telemetry::catalogue::{self, Applies, Kind, LabelKey, Metric, Service};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Longer lists of values are told by their number.
const SHOWN_VALUES: usize = 6;

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let file = file(&crate::root());
    std::fs::write(&file, rendered()).with_context(|| format!("write {}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn file(root: &Path) -> PathBuf {
    root.join("docs/metrics.md")
}

pub(crate) fn rendered() -> String {
    let mut out = String::from(INTRODUCTION);
    // Writing to a String cannot fail, here and below.
    for (area, metrics) in catalogue::areas() {
        let _ = write!(out, "\n## {area}\n\n");
        out.push_str("| Metric | Type | Unit | Labels | Applies | Samples | From | Meaning |\n");
        out.push_str("|---|---|---|---|---|---|---|---|\n");
        metrics.iter().for_each(|metric| out.push_str(&line(metric)));
    }
    out.push_str("\n## Series of a process at most\n\n");
    out.push_str("Scrapes are refused at twice these numbers or more (`sample_limit` in `observability/prometheus/prometheus.yml`).\n\n");
    out.push_str("| Process | Series |\n|---|---|\n");
    for service in Service::all() {
        let _ = writeln!(out, "| {} | {} |", service.text(), catalogue::worst_case(&[*service]));
    }
    let _ = writeln!(out, "| all services in one | {} |", catalogue::worst_case(Service::all()));
    out
}

const INTRODUCTION: &str = "\
# Metrics

Written by `cargo xtask metrics` from `libs/telemetry/src/catalogue/`; a test compares the two.

A metric that does not apply to a process, or has fewer samples than it needs, is absent, and `<name>_samples` stands in its place.
Where an interval is noted, `<name>_ci_low` and `<name>_ci_high` are its 95 % ends.
In a process of several services, names that more than one of them has carry a `service` label.
";

fn line(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter".to_owned(),
        Kind::Gauge => "gauge".to_owned(),
        Kind::Histogram(bounds) => format!("histogram, {} buckets", bounds.len() + 1),
    };
    let applies = match metric.applies {
        Applies::Always => "always".to_owned(),
        Applies::Engine(engine) => format!("with {engine}"),
        Applies::Hardware(hardware) => format!("where there is: {hardware}"),
        Applies::Stream => "once the stream computes it".to_owned(),
    };
    let samples = match (metric.samples, metric.interval) {
        (0, _) => String::new(),
        (samples, false) => samples.to_string(),
        (samples, true) => format!("{samples}, with interval"),
    };
    let services: Vec<&str> = metric.services.iter().map(|service| service.text()).collect();
    let from = match (metric.per_process, services.len() == Service::all().len()) {
        (true, _) => "every process".to_owned(),
        (false, true) => "every service".to_owned(),
        (false, false) => services.join(", "),
    };
    let labels: Vec<String> = metric.labels.iter().map(label).collect();
    let (name, unit, help) = (metric.name, metric.unit.text(), metric.help);
    format!("| `{name}` | {kind} | {unit} | {} | {applies} | {samples} | {from} | {help} |\n", labels.join("; "))
}

fn label(key: &LabelKey) -> String {
    match key.closed() {
        None => format!("`{}`: first {}", key.name, key.cardinality() - 1),
        Some(values) if values.len() > SHOWN_VALUES => format!("`{}`: {} values", key.name, values.len()),
        Some(values) => format!("`{}`: {}", key.name, values.join(", ")),
    }
}
