//! Terraform's providers and its linter. Terraform itself is the machine's own: no registry of packages has it.

use super::go::{fnv, go, installed, once};
use super::{put, said, work_folder};
use anyhow::{Context as _, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tests with mocked providers, write-only arguments and S3's own lock files came one after the other; this has all.
const OLDEST: (u32, u32) = (1, 11);
/// The last of its line; generated from version 6.25.0 of the AWS provider.
const SCHEMAS: &str = "21.22.1";
pub(crate) const KUBECTL: &str = "1.19.0";
const CHECKOV: &str = "3.3.30";

/// The program on the machine, and its version.
pub(crate) fn terraform() -> anyhow::Result<(PathBuf, String)> {
    let program = PathBuf::from("terraform");
    let mut ask = Command::new(&program);
    ask.args(["version", "-json"]).env("CHECKPOINT_DISABLE", "1");
    let answer = said(&mut ask, "terraform 1.11 or later must be on PATH")?;
    let answer: serde_json::Value = serde_json::from_str(&answer).context("read terraform's version")?;
    let version = answer["terraform_version"].as_str().context("find terraform's version")?.to_owned();
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST {
        bail!("terraform {version} is too old: 1.11 or later must be on PATH");
    }
    Ok((program, version))
}

/// The npm package that states the AWS provider's schema, as it comes.
pub(crate) fn schemas(tools: &Path) -> anyhow::Result<PathBuf> {
    let place = tools.join(format!("cdktf-provider-aws-{SCHEMAS}"));
    let archive = place.join("package.tgz");
    if !archive.exists() {
        let work = work_folder(tools)?;
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", &format!("@cdktf/provider-aws@{SCHEMAS}"), "--pack-destination"])
            .arg(work.path());
        let name = said(&mut npm, "download the schema's package with npm")?;
        let ready = work.path().join("ready");
        fs::create_dir(&ready).context("create a folder for the schema's package")?;
        fs::rename(work.path().join(name.trim()), ready.join("package.tgz")).context("find what npm downloaded")?;
        put(&ready, &place)?;
    }
    Ok(archive)
}

/// The provider in `terraform/stub`, which is a schema and nothing else.
pub(crate) fn stub(root: &Path, tools: &Path) -> anyhow::Result<PathBuf> {
    let source = root.join("terraform/stub");
    let files = ["main.go", "go.mod", "go.sum"];
    let mut text = Vec::new();
    for file in files {
        text.extend(fs::read(source.join(file)).with_context(|| format!("read terraform/stub/{file}"))?);
    }
    let name = "terraform-provider-aws";
    once(&tools.join(format!("{name}-schema-only-{:016x}", fnv(&text))), name, |work| {
        let mut build = go();
        build
            .current_dir(&source)
            .args(["build", "-trimpath", "-ldflags", "-s -w", "-o"])
            .arg(work.join(name))
            .arg(".");
        crate::check::process::said(&mut build, "build the provider of schemas").map(drop)
    })
}

/// The real provider of Kubernetes' objects.
pub(crate) fn kubectl(tools: &Path) -> anyhow::Result<PathBuf> {
    installed(tools, "github.com/gavinbunney/terraform-provider-kubectl", &format!("v{KUBECTL}"))
}

pub(crate) fn checkov(tools: &Path) -> anyhow::Result<PathBuf> {
    let folder = tools.join(format!("checkov-{CHECKOV}"));
    let program = folder.join("bin/checkov");
    if !folder.join("ready").exists() {
        eprintln!("installing checkov: this takes minutes, once");
        said(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), "create a Python environment")?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        said(pip.arg(format!("checkov=={CHECKOV}")), "install checkov with pip")?;
        fs::write(folder.join("ready"), "").context("mark the Python environment")?;
    }
    Ok(program)
}
