//! `cargo xtask check deploy images`: the Dockerfile, the bake file, a program as it is packaged, and the layers of Compose.
//!
//! There is no daemon and no registry here: the stages that compile and the images of others are not built. What is packaged is
//! built on `scratch`, looked into, and started.

mod bake;
mod compose;
mod dockerfile;
mod package;
mod pin;

use super::refused;
use super::steps::Steps;
use anyhow::{Context as _, bail};
use std::path::Path;

pub(super) fn run(root: &Path, named: Option<&Path>, steps: &mut Steps) -> anyhow::Result<()> {
    let root = std::fs::canonicalize(root).context("find the checkout")?;
    let tools = crate::tools::folder()?;
    std::fs::create_dir_all(&tools).with_context(|| format!("create {}", tools.display()))?;
    dockerfile::check(&root, &tools, steps);
    bake::check(&root, &tools, steps);
    package::check(&root, &tools, named, steps);
    compose::check(&root, &tools, steps);
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn fail_on(problems: &[String]) -> anyhow::Result<()> {
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}
