//! The protos: buf's lint, and changes against the stored image.

use super::read;
use crate::check::deploy::{refused, steps::Steps};
use crate::check::process::said;
use crate::tools::packages;
use anyhow::{Context as _, bail};
use std::path::Path;
use std::process::Command;

const BUF: &str = "@bufbuild/buf@1.75.0";
const BASELINE: &str = "proto/baseline.binpb.gz";

pub(super) fn check(root: &Path, tools: &Path, steps: &mut Steps) {
    let buf = steps.take("api: buf", || Ok((packages::node(tools, BUF, "buf")?, BUF.to_owned())));
    let Some(buf) = buf else { return };
    let run = |arguments: &[&str]| {
        let mut run = Command::new(&buf);
        run.current_dir(root).args(arguments);
        run
    };
    steps.check("api: lint of the protos", || {
        said(&mut run(&["lint", "proto"]), "buf lint")?;
        let work = changed(root, "attune/bandit/v1/bandit.proto", "rpc Sample(", "rpc sample(")?;
        refused(&mut run(&["lint", &path(work.path())]), "an RPC in lower case", "should be PascalCase")?;
        Ok("STANDARD, with the exceptions of buf.yaml; refuses an RPC in lower case".to_owned())
    });
    steps.check("api: changes of the protos", || {
        said(&mut run(&["breaking", "proto", "--against", BASELINE]), "buf breaking")?;
        for (file, from, to, word) in [
            ("attune/state/v1/state.proto", "int64 accepted_at = 8;", "int64 taken_at = 8;", "changed name"),
            ("attune/decision/v1/decision.proto", "uint32 limit = 6;", "uint64 limit = 6;", "changed type"),
            ("attune/state/v1/state.proto", "  float value = 9;\n", "", "was deleted"),
            (
                "attune/origin/v1/origin.proto",
                "  rpc EraseUser(EraseUserRequest) returns (EraseUserResponse);\n",
                "",
                "was deleted",
            ),
        ] {
            let work = changed(root, file, from, to)?;
            refused(&mut run(&["breaking", &path(work.path()), "--against", BASELINE]), to, word)?;
        }
        Ok("none that breaks; refuses a renamed, retyped or deleted field and a deleted RPC".to_owned())
    });
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A copy of the protos with one thing changed.
fn changed(root: &Path, file: &str, from: &str, to: &str) -> anyhow::Result<tempfile::TempDir> {
    let work = tempfile::tempdir().context("create a folder")?;
    said(Command::new("cp").arg("-r").arg(root.join("proto/.")).arg(work.path()), "copy the protos")?;
    let file = work.path().join(file);
    let text = read(&file)?;
    if !text.contains(from) {
        bail!("{}: there is no {from}", file.display());
    }
    std::fs::write(&file, text.replacen(from, to, 1)).context("change a proto")?;
    Ok(work)
}
