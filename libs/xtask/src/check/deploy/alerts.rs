//! `cargo xtask check deploy alerts`: rules, their tests and the routes, before promtool and amtool.

use super::refused;
use super::steps::Steps;
use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) fn run(steps: &mut Steps, root: &Path) {
    let kit = root.join("observability");
    let Some([promtool, amtool]) = steps.take("alerts: tools", || {
        let tools = crate::tools::alerting()?;
        Ok((tools, "promtool and amtool".to_owned()))
    }) else {
        return;
    };
    let prometheus = kit.join("prometheus");
    steps.check("alerts: rules", || said(command(&promtool, &prometheus).args(["check", "config", "prometheus.yml"])));
    steps.check("alerts: tests of rules", || {
        let tests = tests(&prometheus)?;
        said(command(&promtool, &prometheus).args(["test", "rules"]).args(&tests))?;
        Ok(format!("{} files", tests.len()))
    });
    let alertmanager = kit.join("alertmanager");
    steps.check("alerts: routes", || said(command(&amtool, &alertmanager).args(["check-config", "alertmanager.yml"])));
    steps.check("alerts: a wrong rule and a wrong route are refused", || {
        let folder = tempfile::tempdir().context("create a folder")?;
        let broken = |from: &Path, old: &str, new: &str| {
            let text = std::fs::read_to_string(from).with_context(|| format!("read {}", from.display()))?;
            if !text.contains(old) {
                bail!("{} does not have {old:?} any more", from.display());
            }
            let path = folder.path().join("broken.yml");
            std::fs::write(&path, text.replacen(old, new, 1)).context("write a broken file")?;
            anyhow::Ok(path)
        };
        let rules = broken(&prometheus.join("rules/critical.yml"), "> 0.01", "> > 0.01")?;
        refused(command(&promtool, &prometheus).args(["check", "rules"]).arg(rules), "a broken rule", "parse")?;
        let routes = broken(&alertmanager.join("alertmanager.yml"), "receiver: log", "receiver: nobody")?;
        refused(command(&amtool, &alertmanager).arg("check-config").arg(routes), "an unknown receiver", "nobody")?;
        Ok("both, by name".to_owned())
    });
}

fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    command
}

fn tests(prometheus: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(prometheus.join("tests")).context("find the tests of rules")?;
    let mut tests: Vec<PathBuf> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    tests.sort();
    Ok(tests)
}

/// The last line of what a tool says.
fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}", said.trim());
    }
    Ok(said.trim().lines().last().unwrap_or_default().trim().to_owned())
}
