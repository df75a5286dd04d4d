//! `cargo xtask tools NAME...`: the real tools that tests and operators use, in a folder of their own.
//!
//! The folder is `$ATTUNE_TOOLS`, or `~/.cache/attune-tools`: `bin/NAME` starts a tool, and each package lies beside it under
//! its version, so that a second run costs nothing. Nothing else of the machine is changed, and root is not needed.
//! Removing the folder is how to get newer ones.

mod debian;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

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
}

impl Tool {
    const fn name(self) -> &'static str {
        match self {
            Self::Promtool => "promtool",
            Self::Amtool => "amtool",
            Self::Prometheus => "prometheus",
            Self::Alertmanager => "alertmanager",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Promtool => "promtool",
            Self::Prometheus => "prometheus",
            Self::Amtool | Self::Alertmanager => "prometheus-alertmanager",
        }
    }
}

/// Debian's build reads its default templates from below `/usr/share`. They are shown to it there in a view of the file system
/// that only it has.
const ALERTMANAGER: &str = r#"#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
if [ -e /usr/share/prometheus/alertmanager/default.tmpl ]; then
    exec "$here/usr/bin/prometheus-alertmanager" "$@"
fi
exec unshare --user --map-root-user --mount sh -c '
    mount -t overlay overlay -o "lowerdir=$0/usr/share:/usr/share" /usr/share &&
    exec "$0/usr/bin/prometheus-alertmanager" "$@"' "$here" "$@"
"#;

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

fn find(folder: &Path, tools: &[Tool], offline: bool) -> anyhow::Result<Vec<(Tool, PathBuf)>> {
    let bin = folder.join("bin");
    let missing = || tools.iter().copied().filter(|tool| !bin.join(tool.name()).exists()).collect::<Vec<_>>();
    if !missing().is_empty() && !offline {
        fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
        let lock = File::create(folder.join(".lock")).context("create the lock of the tools folder")?;
        lock.lock().context("wait for another installation of tools")?;
        install(folder, &missing())?;
    }
    if let Some(tool) = missing().first() {
        bail!("{0} is not installed: `cargo xtask tools {0}` does that", tool.name());
    }
    Ok(tools.iter().map(|&tool| (tool, bin.join(tool.name()))).collect())
}

fn install(folder: &Path, tools: &[Tool]) -> anyhow::Result<()> {
    let mut packages: Vec<_> = tools.iter().map(|tool| tool.package()).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let work =
        tempfile::Builder::new().prefix(".installing-").tempdir_in(folder).context("create a folder to work in")?;
    for archive in debian::download(work.path(), &packages)? {
        let place = folder.join(format!("{}-{}", archive.package, archive.version));
        if place.exists() {
            fs::remove_dir_all(&place).with_context(|| format!("replace {}", place.display()))?;
        }
        let unpacked = work.path().join(archive.package);
        debian::unpack(&archive, &unpacked)?;
        if archive.package == Tool::Alertmanager.package() {
            write_script(&unpacked.join("alertmanager"), ALERTMANAGER)?;
        }
        fs::rename(&unpacked, &place).with_context(|| format!("move {} into place", archive.package))?;
        for tool in ALL.iter().filter(|tool| tool.package() == archive.package) {
            let target = match tool {
                Tool::Alertmanager => place.join("alertmanager"),
                _ => place.join("usr/bin").join(tool.name()),
            };
            check(*tool, &target)?;
            link(&target, &folder.join("bin").join(tool.name()))?;
        }
    }
    Ok(())
}

const ALL: [Tool; 4] = [Tool::Promtool, Tool::Amtool, Tool::Prometheus, Tool::Alertmanager];

fn check(tool: Tool, path: &Path) -> anyhow::Result<()> {
    let answer = Command::new(path).arg("--version").stdin(Stdio::null()).output();
    let answer = answer.with_context(|| format!("start {}", path.display()))?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        bail!("{} does not run on this machine: {}", tool.name(), said.trim());
    }
    Ok(())
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
