//! Tools that are built with Go from its module registry, once for each version.

use crate::check::process::said;
use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder@v0.155.0";
const JAEGER: &str = "github.com/jaegertracing/jaeger";
const JAEGER_VERSION: &str = "v1.76.0";

/// A Collector of the components that `observability/collector/builder.yaml` lists.
pub(crate) fn collector(root: &Path, tools: &Path) -> anyhow::Result<PathBuf> {
    let list = root.join("observability/collector/builder.yaml");
    let text = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    // Another list is another program.
    let folder = tools.join(format!("attune-collector-{:016x}", fnv(text.as_bytes())));
    once(&folder, "attune-collector", |work| {
        said(go().args(["install", BUILDER]).env("GOBIN", work), "build the Collector's builder")?;
        let source = work.join("source");
        let list = work.join("builder.yaml");
        let placed = text.replacen("dist:\n", &format!("dist:\n  output_path: {}\n", source.display()), 1);
        fs::write(&list, placed).context("write the list of components")?;
        // The last step, which tidies the module, may fail; building does that as well.
        let mut generate = Command::new(work.join("builder"));
        let generated = said(generate.arg("--config").arg(&list).arg("--skip-compilation"), "generate the Collector");
        if !source.join("go.mod").exists() {
            generated?;
        }
        let mut build = go();
        build.current_dir(&source).args([
            "build",
            "-mod=mod",
            "-trimpath",
            "-ldflags",
            "-s -w",
            "-o",
            "../attune-collector",
            ".",
        ]);
        said(&mut build, "build the Collector").map(drop)
    })
}

pub(crate) fn jaeger(tools: &Path) -> anyhow::Result<PathBuf> {
    let folder = tools.join(format!("jaeger-{JAEGER_VERSION}"));
    once(&folder, "jaeger", |work| {
        // The module replaces some of its own dependencies, which `go install` refuses: a module of ours with its list does it.
        let module = format!("{JAEGER}@{JAEGER_VERSION}");
        let answer = said(go().args(["mod", "download", "-json", &module]), "download Jaeger")?;
        let found: serde_json::Value = serde_json::from_str(&answer).context("read what go downloaded")?;
        let at = Path::new(found["Dir"].as_str().context("find what go downloaded")?);
        let list = fs::read_to_string(at.join("go.mod")).context("read Jaeger's go.mod")?;
        let kept = list.lines().filter(|line| !line.starts_with("module ") && !line.starts_with("toolchain "));
        let own = std::iter::once("module attune/jaeger").chain(kept).collect::<Vec<_>>().join("\n");
        fs::write(work.join("go.mod"), own + "\n").context("write go.mod")?;
        let sums = fs::read(at.join("go.sum")).context("read Jaeger's go.sum")?;
        fs::write(work.join("go.sum"), sums).context("write go.sum")?;
        said(go().current_dir(work).args(["mod", "edit", "-require", &module]), "require Jaeger")?;
        let package = format!("{JAEGER}/cmd/jaeger");
        let mut build = go();
        build.current_dir(work).args(["build", "-mod=mod", "-trimpath", "-ldflags", "-s -w", "-o", "jaeger", &package]);
        said(&mut build, "build Jaeger").map(drop)
    })
}

/// A program whose module `go install` takes as it is.
pub(crate) fn installed(tools: &Path, package: &str, version: &str) -> anyhow::Result<PathBuf> {
    let name = program(package);
    once(&tools.join(format!("{name}-{version}")), name, |work| {
        let mut install = go();
        install.args(["install", "-trimpath", "-ldflags", "-s -w", &format!("{package}@{version}")]).env("GOBIN", work);
        said(&mut install, &format!("build {name}")).map(drop)
    })
}

/// A program whose module `go install` refuses, because it replaces dependencies: a module of ours that requires it.
pub(crate) fn required(tools: &Path, package: &str, version: &str) -> anyhow::Result<PathBuf> {
    let name = program(package);
    once(&tools.join(format!("{name}-{version}")), name, |work| {
        said(go().current_dir(work).args(["mod", "init", "attune/tool"]), "begin a module")?;
        let wanted = format!("{package}@{version}");
        said(go().current_dir(work).args(["get", &wanted]), &format!("download {name}"))?;
        let mut build = go();
        build.current_dir(work).args(["build", "-mod=mod", "-trimpath", "-ldflags", "-s -w", "-o", name, package]);
        said(&mut build, &format!("build {name}")).map(drop)
    })
}

/// The last part of a package's path that is not its major version: `go.k6.io/k6/v2` is `k6`.
fn program(package: &str) -> &str {
    let is_version = |part: &&str| part.strip_prefix('v').is_none_or(|n| n.parse::<u32>().is_err());
    package.rsplit('/').find(is_version).unwrap_or(package)
}

pub(crate) fn go() -> Command {
    let mut go = Command::new("go");
    go.env("GOFLAGS", "-modcacherw").env("CGO_ENABLED", "0");
    go
}

/// The program in the folder, which is filled once and as a whole.
pub(crate) fn once(
    folder: &Path,
    name: &str,
    build: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let program = folder.join(name);
    if !program.exists() {
        eprintln!("building {name}: this takes minutes, once");
        let work = folder.with_extension("building");
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("empty {}", work.display()))?;
        }
        fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
        build(&work)?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        fs::rename(work.join(name), &program).with_context(|| format!("move {name} into place"))?;
        fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    }
    Ok(program)
}

/// FNV-1a: tells lists apart.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
