//! What builds and reads images without a daemon: buildah and skopeo, and the reader of Compose files.

use super::debian::{self, Suite};
use super::{check, go, packages, write_script};
use crate::check::process::said;
use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// With those of their libraries that a Debian of the same release may lack.
const PACKAGES: [&str; 7] = [
    "buildah",
    "skopeo",
    "golang-github-containers-common",
    "libgpgme11",
    "libassuan0",
    "libdevmapper1.02.1",
    "libseccomp2",
];
const COMPOSE: &str = "github.com/compose-spec/compose-go/v2";
const COMPOSE_VERSION: &str = "v2.16.2";

/// Everything stays in the folder of whoever uses them, and images are checked by what is in them, not by who signed them.
const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$(dirname "$(readlink -f "$0")")")
export LD_LIBRARY_PATH="$here/usr/lib/$(uname -m)-linux-gnu"
export CONTAINERS_CONF="$here/usr/share/containers/containers.conf"
exec "$here/usr/bin/$(basename "$0")" "$@"
"#;

/// The folder with `buildah`, `skopeo` and `policy.json`: the machine's own programs where it has them.
pub(crate) fn builders(tools: &Path) -> anyhow::Result<PathBuf> {
    packages::whole(&tools.join("containers-1"), |work| {
        let bin = work.join("bin");
        fs::create_dir_all(&bin).context("create a folder for programs")?;
        fs::write(bin.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)
            .context("write a policy")?;
        let own = ["buildah", "skopeo"]
            .map(|name| said(Command::new("sh").args(["-c", &format!("command -v {name}")]), name));
        if let [Ok(buildah), Ok(skopeo)] = &own {
            for (name, path) in [("buildah", buildah), ("skopeo", skopeo)] {
                super::link(Path::new(path.trim()), &bin.join(name))?;
            }
            return Ok(());
        }
        let downloads = work.join("download");
        fs::create_dir_all(&downloads).context("create a folder for downloads")?;
        let archives = debian::download(&downloads, Suite::Own, &PACKAGES)
            .context("buildah and skopeo are not there: `apt-get install buildah skopeo`")?;
        for archive in &archives {
            debian::unpack(archive, work)?;
        }
        fs::remove_dir_all(&downloads).context("remove the downloads")?;
        for name in ["buildah", "skopeo"] {
            write_script(&bin.join(name), SCRIPT)?;
            check(&bin.join(name), &["--version"])
                .context("buildah and skopeo of this release need more: `apt-get install buildah skopeo`")?;
        }
        Ok(())
    })
    .map(|folder| folder.join("bin"))
}

/// A program that loads layers of Compose files with Compose's own loader and prints the merged project.
pub(crate) fn compose(tools: &Path) -> anyhow::Result<PathBuf> {
    go::once(&tools.join(format!("compose-config-{COMPOSE_VERSION}")), "compose-config", |work| {
        fs::write(work.join("main.go"), include_str!("compose.go"))
            .context("write the program around Compose's loader")?;
        let run =
            |arguments: &[&str]| said(go::go().current_dir(work).args(arguments), "build the reader of Compose files");
        run(&["mod", "init", "attune/compose"])?;
        run(&["get", &format!("{COMPOSE}@{COMPOSE_VERSION}")])?;
        run(&["build", "-mod=mod", "-trimpath", "-ldflags", "-s -w", "-o", "compose-config", "."]).map(drop)
    })
}
