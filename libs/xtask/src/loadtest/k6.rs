//! k6: checks a script, runs it, and reads what it says.

use super::series::Series;
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGE: &str = "go.k6.io/k6/v2";
const VERSION: &str = "v2.2.0";
/// What k6 says of options that it does not know, and goes on.
const UNKNOWN: &str = "unknown fields";
/// k6's exit code where a threshold was crossed.
pub(crate) const CROSSED: i32 = 99;

#[derive(Debug)]
pub(crate) struct K6 {
    program: PathBuf,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) summary: Value,
    pub(crate) series: Series,
}

impl K6 {
    pub(crate) fn installed(tools: &Path) -> anyhow::Result<Self> {
        let program = crate::tools::go::required(tools, PACKAGE, VERSION)?;
        Ok(Self { program })
    }

    pub(crate) fn version(&self) -> anyhow::Result<String> {
        let said = crate::check::process::said(Command::new(&self.program).arg("version"), "ask k6 for its version")?;
        Ok(said.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    /// Takes the script apart without running it; what it needs, or why it is refused.
    pub(crate) fn inspect(&self, script: &Path, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.program);
        command.args(["inspect", "--execution-requirements"]);
        for (name, value) in parameters {
            command.args(["-e", &format!("{name}={value}")]);
        }
        let output = command.arg(script).stdin(Stdio::null()).output().context("start k6")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || said.contains(UNKNOWN) {
            bail!("k6 refuses {}: {}", script.display(), said.trim());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("read what k6 says of {}", script.display()))
    }

    /// Runs a script that needs no platform and whose thresholds must hold.
    pub(crate) fn test(&self, script: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["run", "--quiet", "--no-color", "--no-usage-report"]).arg(script);
        crate::check::process::said(&mut command, &format!("run {}", script.display())).map(drop)
    }

    /// Runs a script to its end. Its words go to `folder/k6.log`.
    pub(crate) fn run(&self, script: &Path, parameters: &[(&str, String)], folder: &Path) -> anyhow::Result<Ran> {
        let summary = folder.join("summary.json");
        let log = folder.join("k6.log");
        let mut command = Command::new(&self.program);
        command.args(["run", "--quiet", "--no-color", "--no-usage-report", "--out", "csv=-"]).arg(script);
        command.envs(parameters.iter().map(|(name, value)| (*name, value))).env("SUMMARY", &summary);
        let errors = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn().context("start k6")?;
        let samples = child.stdout.take().context("read k6's samples")?;
        let series = Series::read(BufReader::new(samples));
        let status = child.wait().context("wait for k6")?;
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let code = status.code().unwrap_or(-1);
        if (code != 0 && code != CROSSED) || said.contains(UNKNOWN) {
            let lines: Vec<_> = said.lines().collect();
            bail!("k6 ended with {code}: {}", lines[lines.len().saturating_sub(10)..].join("\n"));
        }
        let text = std::fs::read_to_string(&summary).with_context(|| format!("read {}", summary.display()))?;
        Ok(Ran { code, summary: serde_json::from_str(&text).context("read k6's summary")?, series: series? })
    }
}

impl Ran {
    /// A figure of a metric; None where nothing was measured.
    pub(crate) fn figure(&self, metric: &str, figure: &str) -> Option<f64> {
        self.summary["metrics"][metric]["values"][figure].as_f64()
    }

    pub(crate) fn count(&self, metric: &str) -> u64 {
        self.figure(metric, "count").unwrap_or(0.0) as u64
    }

    /// Each threshold that judges something: metric, rule and whether it held.
    pub(crate) fn thresholds(&self) -> Vec<(String, String, bool)> {
        let metrics = self.summary["metrics"].as_object().into_iter().flatten();
        let mut all: Vec<_> = metrics
            .flat_map(|(name, metric)| {
                let rules = metric["thresholds"].as_object().into_iter().flatten();
                rules.map(|(rule, held)| (name.clone(), rule.clone(), held["ok"] == Value::Bool(true)))
            })
            .filter(|(_, rule, _)| !rule.ends_with(">=0"))
            .collect();
        all.sort();
        all
    }
}
