//! The recorder's own benches, run on core 0, and their figures: the recorder's table of interleaved rounds, and the
//! samples that Criterion leaves behind.

use crate::bench::stats::Interval;
use crate::bench::{say, stats};
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A figure, with the 10th and the 90th percentile of its rounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Micro {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    pub(super) at_most: Option<f64>,
    pub(super) measured: Option<Interval>,
}

/// Of the recorder's table: its name there, ours, and the goal. Nanoseconds.
const ROWS: [(&str, &str, Option<f64>); 7] = [
    ("ten spans, 5 attributes together, per span", "a span of ten, five attributes set together", Some(110.0)),
    ("ten spans, 5 attributes one by one, per span", "a span of ten, five attributes one by one", Some(110.0)),
    ("ten spans, tracing-opentelemetry, 100 %, per span", "the same by tracing-opentelemetry, 100 %", None),
    ("ten spans, OpenTelemetry SDK, 100 % to a batch, per span", "the same by the OpenTelemetry SDK, 100 %", None),
    ("edge hit: admit, 3 spans, 11 attributes, exemplar", "an edge hit's whole trace", None),
    ("extract", "extract", Some(150.0)),
    ("inject", "inject", None),
];
const OURS: [usize; 2] = [0, 1];
const PEER: usize = 2;
const ALLOCATIONS: [(&str, f64); 2] =
    [("allocations, attributes together", 0.2), ("allocations, attributes one by one", 0.2)];
const SHARES: [(&str, f64); 2] =
    [("of tracing-opentelemetry, together", 0.1), ("of tracing-opentelemetry, one by one", 0.1)];

/// Of Criterion: the bench, its name there, ours, and the goal. Nanoseconds.
const SAMPLED: [(&str, &str, &str, f64); 4] = [
    ("metrics", "counter", "counter", 8.0),
    ("metrics", "histogram with exemplar", "histogram with exemplar", 30.0),
    ("log", "request line, without a user", "log line, without a user", 500.0),
    ("log", "request line, with its user hash", "log line, with its user hash", 500.0),
];

pub(super) fn measure() -> anyhow::Result<Vec<Micro>> {
    // A filter that fits none of Criterion's: the table of interleaved rounds is enough.
    let table = bench("recorder", "^the table alone$")?.context("libs/telemetry has no recorder bench")?;
    let mut all = of_table(&table)?;
    for name in ["metrics", "log"] {
        let ours: Vec<_> = SAMPLED.iter().filter(|(bench, ..)| *bench == name).collect();
        let wanted: Vec<&str> = ours.iter().map(|(_, there, ..)| *there).collect();
        let ran = bench(name, &format!("^({})$", wanted.join("|")))?.is_some();
        for (_, there, what, most) in ours {
            let measured = if ran { Some(of_samples(there)?) } else { None };
            all.push(Micro { what, unit: "ns", at_most: Some(*most), measured });
        }
    }
    Ok(all)
}

/// What a bench prints. None where there is no such bench.
fn bench(name: &str, filter: &str) -> anyhow::Result<Option<String>> {
    let root = crate::root();
    if !root.join(format!("libs/telemetry/benches/{name}.rs")).is_file() {
        return Ok(None);
    }
    say(&format!("bench {name}"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let of = ["bench", "--package", "attune-telemetry", "--bench", name];
    let built = Command::new(&cargo).args(of).arg("--no-run").current_dir(&root).status().context("run cargo")?;
    if !built.success() {
        bail!("the bench {name} does not build");
    }
    let output = Command::new("taskset")
        .args(["-c", "0"])
        .arg(&cargo)
        .args(of)
        .args(["--", "--noplot", filter])
        .current_dir(&root)
        .stderr(Stdio::inherit())
        .output()
        .context("start taskset with cargo (taskset comes with util-linux)")?;
    if !output.status.success() {
        bail!("the bench {name} failed");
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// A line of the recorder's table: 10th percentile, median, 90th, allocations.
fn row(table: &str, name: &str) -> anyhow::Result<[f64; 4]> {
    let figures = table.lines().find_map(|line| {
        let figures: Result<Vec<f64>, _> = line.strip_prefix(name)?.split_whitespace().map(str::parse).collect();
        figures.ok()?.try_into().ok()
    });
    figures.with_context(|| format!("the recorder's table has no line {name:?}"))
}

fn of_table(table: &str) -> anyhow::Result<Vec<Micro>> {
    let mut rows = Vec::new();
    for (there, ..) in ROWS {
        rows.push(row(table, there)?);
    }
    let exactly = |value| Some(Interval { median: value, low: value, high: value });
    let named = ROWS.iter().zip(&rows).map(|((_, what, at_most), [low, median, high, _])| Micro {
        what,
        unit: "ns",
        at_most: *at_most,
        measured: Some(Interval { median: *median, low: *low, high: *high }),
    });
    let allocations = OURS.iter().zip(ALLOCATIONS).map(|(&at, (what, most))| Micro {
        what,
        unit: "a span",
        at_most: Some(most),
        measured: exactly(rows[at][3]),
    });
    let [peer_low, peer, peer_high, _] = rows[PEER];
    let shares = OURS.iter().zip(SHARES).map(|(&at, (what, most))| {
        let [low, median, high, _] = rows[at];
        // The widest that the percentiles allow.
        let measured = Some(Interval { median: median / peer, low: low / peer_high, high: high / peer_low });
        Micro { what, unit: "its cost", at_most: Some(most), measured }
    });
    Ok(named.chain(allocations).chain(shares).collect())
}

/// What Criterion leaves of a run: so many iterations took so many nanoseconds.
#[derive(Deserialize)]
struct Samples {
    iters: Vec<f64>,
    times: Vec<f64>,
}

impl Samples {
    fn spread(&self) -> Interval {
        let each = self.iters.iter().zip(&self.times).map(|(iterations, took)| took / iterations);
        let mut each: Vec<f64> = each.collect();
        each.sort_by(f64::total_cmp);
        let at = |share| stats::quantile(&each, share);
        Interval { median: at(0.5), low: at(0.1), high: at(0.9) }
    }
}

fn of_samples(name: &str) -> anyhow::Result<Interval> {
    let path = target()?.join("criterion").join(name).join("new/sample.json");
    let text = fs::read(&path).with_context(|| format!("read Criterion's samples {}", path.display()))?;
    let samples: Samples = serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    Ok(samples.spread())
}

fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    own.parent().and_then(Path::parent).map(Path::to_owned).context("find the target folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorders_table_is_read_and_compared() {
        let line = |name: &str, figures: &str| format!("{name:<58}{figures}\n");
        let mut table = String::from("header p10 ns median p90 allocations\n");
        for (at, (name, ..)) in ROWS.iter().enumerate() {
            let figures = if at == PEER { " 900.0 1000.0 1200.0 3.300" } else { "  90.0   95.0  108.0 0.100" };
            table += &line(name, figures);
        }
        table += &line("extract, OpenTelemetry SDK", "   1.0   1.0   1.0   1.0");
        let all = of_table(&table).unwrap();
        let figure = |what: &str| all.iter().find(|one| one.what == what).unwrap().measured.unwrap();
        assert_eq!(figure("extract").median, 95.0);
        assert_eq!(figure(ALLOCATIONS[0].0).high, 0.1);
        let share = figure(SHARES[0].0);
        assert_eq!((share.low, share.median, share.high), (90.0 / 1200.0, 0.095, 108.0 / 900.0));
        assert!(of_table(&table.replace("inject", "eject")).is_err());
    }

    #[test]
    fn a_sample_is_time_over_iterations() {
        let text = r#"{"sampling_mode":"Linear","iters":[10,20,30],"times":[50,120,210]}"#;
        let samples: Samples = serde_json::from_str(text).unwrap();
        let spread = samples.spread();
        assert_eq!((spread.low, spread.median, spread.high), (5.0, 6.0, 7.0));
    }
}
