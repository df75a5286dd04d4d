//! Tools from the registries of Python's, Node's and Rust's packages, each in a folder of its own under its version.

use crate::check::process::said;
use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Python packages that are used together, as `NAME==VERSION`; gives the folder for `PYTHONPATH`.
pub(crate) fn python(tools: &Path, name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let version = packages.first().and_then(|package| package.split_once("==")).map_or("0", |(_, version)| version);
    whole(&tools.join(format!("{name}-{version}")), |work| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"]);
        pip.arg(work).args(packages);
        said(&mut pip, &format!("install {name} with pip")).map(drop)
    })
}

/// A Node package, as `NAME@VERSION`; gives its program.
pub(crate) fn node(tools: &Path, package: &str, program: &str) -> anyhow::Result<PathBuf> {
    let (_, version) = package.rsplit_once('@').with_context(|| format!("{package} has no version"))?;
    let folder = whole(&tools.join(format!("{program}-{version}")), |work| {
        fs::write(work.join("package.json"), "{\"private\":true}\n").context("write package.json")?;
        let mut npm = Command::new("npm");
        npm.current_dir(work).args(["install", "--silent", "--no-audit", "--no-fund", "--save-exact", package]);
        said(&mut npm, &format!("install {package} with npm")).map(drop)
    })?;
    Ok(folder.join("node_modules/.bin").join(program))
}

/// A program of cargo's registry; gives the folder that it is in.
pub(crate) fn cargo(tools: &Path, package: &str, version: &str) -> anyhow::Result<PathBuf> {
    let folder = whole(&tools.join(format!("{package}-{version}")), |work| {
        let mut install = Command::new("cargo");
        install.args(["install", "--quiet", "--locked", &format!("{package}@{version}"), "--root"]).arg(work);
        install.env("CARGO_TARGET_DIR", work.join("target"));
        said(&mut install, &format!("install {package} with cargo"))?;
        fs::remove_dir_all(work.join("target")).context("remove what cargo built on the way")
    })?;
    Ok(folder.join("bin"))
}

/// The folder, which is filled once and as a whole.
pub(super) fn whole(folder: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    if !folder.exists() {
        let mut name = folder.file_name().context("name a folder of tools")?.to_owned();
        eprintln!("installing {}", name.display());
        name.push(".installing");
        let work = folder.with_file_name(name);
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("empty {}", work.display()))?;
        }
        fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
        fill(&work)?;
        fs::rename(&work, folder).with_context(|| format!("move {} into place", folder.display()))?;
    }
    Ok(folder.to_owned())
}
