//! `cargo xtask check deploy api`: the HTTP and gRPC contracts, and the references that are written from sources.

mod openapi;
mod proto;
mod settings;

use super::steps::Steps;
use anyhow::{Context as _, bail};
use std::path::Path;

pub(super) fn run(root: &Path, named: Option<&Path>, steps: &mut Steps) -> anyhow::Result<()> {
    let root = std::fs::canonicalize(root).context("find the checkout")?;
    let tools = crate::tools::folder()?;
    std::fs::create_dir_all(&tools).with_context(|| format!("create {}", tools.display()))?;
    steps.check("api: references", || {
        fail_on(&crate::reference::stale(&root)?)?;
        Ok("configuration.md and grpc-api.md are what their sources give".to_owned())
    });
    proto::check(&root, &tools, steps);
    openapi::check(&root, &tools, steps);
    let attune = steps.take("api: program", || {
        let attune = crate::check::process::attune(&root, named)?;
        let seen = attune.display().to_string();
        Ok((attune, seen))
    });
    if let Some(attune) = attune {
        settings::check(&root, &attune, steps);
        openapi::conform(&root, &tools, &attune, steps);
    }
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
