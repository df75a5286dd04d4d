//! What a run needs before it can measure: the program as the tree has it, and a filled state folder.

use super::say;
use anyhow::{Context as _, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds what is measured, so that it is what the tree holds.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status =
        Command::new(cargo).args(["build", "--release", "--package", "attune"]).status().context("run cargo")?;
    if !status.success() {
        bail!("attune does not build");
    }
    let own = std::env::current_exe().context("find this program")?;
    Ok(own.parent().context("find this program's folder")?.join("attune"))
}

pub(crate) fn tmpfs() -> anyhow::Result<&'static Path> {
    let path = Path::new("/dev/shm");
    if !path.is_dir() {
        bail!("/dev/shm is missing: the peer's cache belongs on tmpfs");
    }
    Ok(path)
}

/// A state folder to measure on: the given one, or one filled once under `target/bench`.
pub(crate) fn state(given: Option<&Path>, data: &Path, attune: &Path) -> anyhow::Result<PathBuf> {
    if let Some(state) = given {
        if !state.join("FILLED").is_file() {
            bail!("--state {}: not a state folder that attune has filled", state.display());
        }
        return Ok(state.to_owned());
    }
    let target = attune.parent().and_then(Path::parent).context("find the target folder")?;
    let state = target.join("bench/state");
    if !state.join("FILLED").is_file() {
        fs::create_dir_all(&state)?;
        say("filling a state folder; this takes a few minutes once");
        let mut child = Command::new(attune)
            .args(["up", "--json", "--listen", "127.0.0.1:0", "--state"])
            .arg(&state)
            .arg("--data")
            .arg(data)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .context("start attune")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("read attune's first line")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        Command::new("kill").arg(child.id().to_string()).status()?;
        let status = child.wait()?;
        if line.is_empty() {
            bail!("attune could not fill a state folder from {} ({status})", data.display());
        }
    }
    Ok(state)
}
