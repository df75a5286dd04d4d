//! `cargo xtask tools NAME...`: the real tools that tests and operators use, in a folder of their own.
//!
//! The folder is `$ATTUNE_TOOLS`, or `~/.cache/attune-tools`: `bin/NAME` starts a tool, and each package lies beside it under
//! its version, so that a second run costs nothing. Nothing else of the machine is changed, and root is not needed.
//! Removing the folder is how to get newer ones.

mod chdb;
pub(crate) mod containers;
mod debian;
pub(crate) mod go;
pub(crate) mod kafka;
pub(crate) mod kubernetes;
pub(crate) mod packages;
mod prometheus;
mod redis;
pub(crate) mod terraform;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

#[derive(Debug, Args)]
pub(crate) struct ToolsArgs {
    /// Which tools
    #[arg(required = true, value_name = "NAME")]
    names: Vec<Tool>,
    /// Install nothing: fail where a tool is not there yet
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tool {
    /// Checks Prometheus rules and runs their tests
    Promtool,
    /// Checks Alertmanager's configuration and routes
    Amtool,
    Prometheus,
    Alertmanager,
    /// A Redis server and its command line
    Redis,
    /// Runs the classes of a Kafka broker
    Kafka,
    /// ClickHouse as a library of Python's, with a program around it that answers queries
    Chdb,
}

impl Tool {
    const fn name(self) -> &'static str {
        match self {
            Self::Promtool => "promtool",
            Self::Amtool => "amtool",
            Self::Prometheus => "prometheus",
            Self::Alertmanager => "alertmanager",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
            Self::Chdb => "chdb",
        }
    }

    /// What is in `bin` when it is installed; the first is printed.
    const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Promtool => &["promtool"],
            Self::Amtool => &["amtool"],
            Self::Prometheus => &["prometheus"],
            Self::Alertmanager => &["alertmanager"],
            Self::Redis => &redis::PROGRAMS,
            Self::Kafka => &["kafka"],
            Self::Chdb => &["chdb"],
        }
    }
}

pub(crate) fn run(args: &ToolsArgs) -> anyhow::Result<ExitCode> {
    let folder = folder()?;
    for (tool, path) in find(&folder, &args.names, args.offline)? {
        crate::print(&format!("{} {}\n", tool.name(), path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where tools are kept.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("ATTUNE_TOOLS").filter(|folder| !folder.is_empty()) {
        return std::path::absolute(folder).context("find the folder that ATTUNE_TOOLS names");
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.context("where should tools be kept? Set ATTUNE_TOOLS or HOME to a folder")?;
    Ok(Path::new(&home).join(".cache/attune-tools"))
}

/// What runs a broker's classes; installed where it is not there yet.
pub(crate) fn kafka_broker() -> anyhow::Result<PathBuf> {
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let found = find(&folder, &[Tool::Kafka], false)?;
    found.into_iter().next().map(|(_, path)| path).context("find kafka")
}

/// The program that asks an embedded ClickHouse; installed where it is not there yet.
pub(crate) fn clickhouse() -> anyhow::Result<PathBuf> {
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let found = find(&folder, &[Tool::Chdb], false)?;
    found.into_iter().next().map(|(_, path)| path).context("find chdb")
}

/// promtool and amtool; installed where they are not there yet.
pub(crate) fn alerting() -> anyhow::Result<[PathBuf; 2]> {
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let found: Vec<PathBuf> =
        find(&folder, &[Tool::Promtool, Tool::Amtool], false)?.into_iter().map(|(_, path)| path).collect();
    found.try_into().ok().context("find promtool and amtool")
}

fn find(folder: &Path, tools: &[Tool], offline: bool) -> anyhow::Result<Vec<(Tool, PathBuf)>> {
    let bin = folder.join("bin");
    let is_there = |tool: Tool| tool.programs().iter().all(|program| bin.join(program).exists());
    let missing = || tools.iter().copied().filter(|tool| !is_there(*tool)).collect::<Vec<_>>();
    if !missing().is_empty() && !offline {
        fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
        let lock = File::create(folder.join(".lock")).context("create the lock of the tools folder")?;
        lock.lock().context("wait for another installation of tools")?;
        install(folder, &missing())?;
    }
    if let Some(tool) = missing().first() {
        bail!("{0} is not installed: `cargo xtask tools {0}` does that", tool.name());
    }
    Ok(tools.iter().map(|&tool| (tool, bin.join(tool.programs()[0]))).collect())
}

/// One that cannot be had does not keep the others away.
fn install(folder: &Path, tools: &[Tool]) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    let mut keep = |done: anyhow::Result<()>| {
        if let Err(error) = done {
            failures.push(format!("{error:#}"));
        }
    };
    keep(prometheus::install(folder, tools));
    if tools.contains(&Tool::Redis) {
        keep(redis::install(folder).context("install redis"));
    }
    if tools.contains(&Tool::Kafka) {
        keep(kafka::install(folder).context("install kafka"));
    }
    if tools.contains(&Tool::Chdb) {
        keep(chdb::install(folder).context("install chdb"));
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\nxtask: "));
    }
    Ok(())
}

/// A folder that is gone at the end, on the file system of the tools.
fn work_folder(folder: &Path) -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(".installing-").tempdir_in(folder).context("create a folder to work in")
}

/// Moves what is ready to where it is used, in place of what was there.
fn put(ready: &Path, place: &Path) -> anyhow::Result<()> {
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("replace {}", place.display()))?;
    }
    fs::rename(ready, place).with_context(|| format!("move {} into place", place.display()))
}

/// Its answer shows that a program runs on this machine.
fn check(path: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let answer = Command::new(path).args(arguments).stdin(Stdio::null()).output();
    let answer = answer.with_context(|| format!("start {}", path.display()))?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        bail!("{} does not run on this machine: {}", path.display(), said.trim());
    }
    Ok(())
}

/// What a command says on stdout, or why it failed.
fn said(command: &mut Command, what: &str) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let answer = command.stdin(Stdio::null()).output().with_context(|| format!("{what}: start {program}"))?;
    let Output { status, stdout, stderr } = answer;
    if !status.success() {
        let text = String::from_utf8_lossy(&stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        bail!("{what}: {program} failed: {last}");
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

fn write_script(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| format!("make {} run", path.display()))
}

/// Replaces whatever link was there, in one step.
fn link(target: &Path, link: &Path) -> anyhow::Result<()> {
    let fresh = link.with_extension("new");
    let _ = fs::remove_file(&fresh);
    std::os::unix::fs::symlink(target, &fresh).with_context(|| format!("link {}", link.display()))?;
    fs::rename(&fresh, link).with_context(|| format!("link {}", link.display()))
}
