//! Helm, a control plane of Kubernetes with simulated nodes, and the definitions of the resources that the chart uses.

use super::go::{go, installed};
use super::{check, debian, link, put, said, work_folder};
use anyhow::{Context as _, bail};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HELM: (&str, &str) = ("helm.sh/helm/v4/cmd/helm", "v4.2.4");
const KWOK: (&str, &str) = ("sigs.k8s.io/kwok/cmd/kwok", "v0.8.0");
const KUBERNETES: &str = "v1.36.3";
/// Version of the modules that Kubernetes keeps in its own tree and publishes beside it.
const STAGING: &str = "v0.36.3";
const PROGRAMS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Modules that hold definitions of resources, and the folder where.
const DEFINITIONS: [(&str, &str); 4] = [
    ("github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd"),
    ("github.com/kedacore/keda/v2@v2.20.2", "config/crd/bases"),
    ("github.com/cert-manager/cert-manager@v1.20.0", "deploy/crds"),
    ("sigs.k8s.io/gateway-api@v1.5.0", "config/crd/standard"),
];

/// Of the pods and nodes that kwok plays: ready at once, and gone at once.
const STAGES: [&str; 3] = ["node/fast", "node/heartbeat-with-lease", "pod/fast"];

pub(crate) fn helm(tools: &Path) -> anyhow::Result<PathBuf> {
    installed(tools, HELM.0, HELM.1)
}

pub(crate) fn kwok(tools: &Path) -> anyhow::Result<PathBuf> {
    installed(tools, KWOK.0, KWOK.1)
}

/// kwok's own stages as one file.
pub(crate) fn stages(tools: &Path) -> anyhow::Result<PathBuf> {
    let file = tools.join(format!("kwok-{}", KWOK.1)).join("stages.yaml");
    if !file.exists() {
        let module = module(&format!("sigs.k8s.io/kwok@{}", KWOK.1))?;
        let folders = STAGES.map(|stage| module.join("kustomize/stage").join(stage));
        let mut text = String::new();
        for each in folders {
            for manifest in manifests(&each)? {
                if manifest.file_name().is_none_or(|name| name != "kustomization.yaml") {
                    text.push_str("---\n");
                    text.push_str(&fs::read_to_string(&manifest).context("read a stage of kwok")?);
                }
            }
        }
        fs::write(&file, text).context("write kwok's stages")?;
    }
    Ok(file)
}

/// A folder of definitions, as `kubectl apply -f` takes it.
pub(crate) fn definitions(tools: &Path) -> anyhow::Result<PathBuf> {
    let key = DEFINITIONS.map(|(module, _)| module).join(" ");
    let folder = tools.join(format!("definitions-{:016x}", super::go::fnv(key.as_bytes())));
    if !folder.exists() {
        let work = work_folder(tools)?;
        let ready = work.path().join("definitions");
        fs::create_dir(&ready).context("create a folder of definitions")?;
        for (name, within) in DEFINITIONS {
            for manifest in manifests(&module(name)?.join(within))? {
                let to = ready.join(manifest.file_name().context("name a definition")?);
                fs::copy(&manifest, to).with_context(|| format!("copy {}", manifest.display()))?;
            }
        }
        put(&ready, &folder)?;
    }
    Ok(folder)
}

/// The folder of API server, controller manager and scheduler.
pub(crate) fn control_plane(tools: &Path) -> anyhow::Result<PathBuf> {
    let folder = tools.join(format!("kubernetes-{KUBERNETES}"));
    if PROGRAMS.iter().all(|program| folder.join(program).exists()) {
        return Ok(folder);
    }
    eprintln!("building {}: this takes minutes, once", PROGRAMS.join(", "));
    let work = work_folder(tools)?;
    let source = work.path().join("source");
    fs::create_dir(&source).context("create a module")?;
    fs::write(source.join("go.mod"), control_plane_module(&module(&format!("k8s.io/kubernetes@{KUBERNETES}"))?)?)
        .context("write go.mod")?;
    let imports = PROGRAMS.map(|program| format!("\t_ \"k8s.io/kubernetes/cmd/{program}\"\n")).concat();
    fs::write(source.join("tools.go"), format!("package tools\n\nimport (\n{imports})\n")).context("write tools.go")?;
    said(go().current_dir(&source).args(["mod", "tidy"]), "find Kubernetes' dependencies")?;
    let ready = work.path().join("ready");
    fs::create_dir(&ready).context("create a folder of programs")?;
    let version = "k8s.io/component-base/version";
    let minor = KUBERNETES.split('.').nth(1).unwrap_or_default();
    let flags =
        format!("-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}");
    for program in PROGRAMS {
        let mut build = go();
        build.current_dir(&source).args(["build", "-mod=mod", "-trimpath", "-ldflags", &flags, "-o"]);
        build.arg(ready.join(program)).arg(format!("k8s.io/kubernetes/cmd/{program}"));
        said(&mut build, &format!("build {program}"))?;
    }
    put(&ready, &folder)?;
    Ok(folder)
}

/// Kubernetes requires its own parts at no version and takes them from its tree; ours takes those that are published.
fn control_plane_module(kubernetes: &Path) -> anyhow::Result<String> {
    let theirs = fs::read_to_string(kubernetes.join("go.mod")).context("read Kubernetes' go.mod")?;
    let go = theirs.lines().find(|line| line.starts_with("go ")).context("find Kubernetes' version of Go")?;
    let minor = go.trim_start_matches("go ").split('.').take(2).collect::<Vec<_>>().join(".");
    let mut ours = format!(
        "module attune/kubernetes\n\n{go}\n\ngodebug default=go{minor}\n\nrequire k8s.io/kubernetes {KUBERNETES}\n\n"
    );
    let parts = theirs.lines().filter_map(|line| line.trim().split_once(" => ./staging/src/")).collect::<Vec<_>>();
    if parts.is_empty() {
        bail!("Kubernetes' go.mod names no parts of its own");
    }
    for (part, _) in parts {
        let part = part.trim_start_matches("replace ");
        writeln!(ours, "replace {part} => {part} {STAGING}").context("write go.mod")?;
    }
    Ok(ours)
}

/// kubectl and etcd, from Debian.
pub(crate) fn programs(tools: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let places = ["kubectl", "etcd"].map(|program| tools.join("bin").join(program));
    if places.iter().all(|place| place.exists()) {
        return Ok(places);
    }
    fs::create_dir_all(tools.join("bin")).context("create the tools' bin")?;
    let work = work_folder(tools)?;
    for archive in debian::download(work.path(), debian::Suite::Sid, &["kubectl", "etcd-server"])? {
        let place = tools.join(format!("{}-{}", archive.package, archive.version));
        let unpacked = work.path().join(archive.package);
        debian::unpack(&archive, &unpacked)?;
        put(&unpacked, &place)?;
        let (program, version) =
            if archive.package == "kubectl" { ("kubectl", "version --client") } else { ("etcd", "--version") };
        let target = place.join("usr/bin").join(program);
        check(&target, &version.split(' ').collect::<Vec<_>>())?;
        link(&target, &tools.join("bin").join(program))?;
    }
    Ok(places)
}

/// A Python with what the chart's checks import.
pub(crate) fn chart_python(tools: &Path) -> anyhow::Result<PathBuf> {
    const VALIDATE: &str = "1.37.0";
    let folder = tools.join(format!("kubernetes-validate-{VALIDATE}"));
    let python = folder.join("bin/python");
    if !folder.join("ready").exists() {
        said(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), "create a Python environment")?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        said(pip.arg(format!("kubernetes-validate=={VALIDATE}")), "install kubernetes-validate with pip")?;
        fs::write(folder.join("ready"), "").context("mark the Python environment")?;
    }
    Ok(python)
}

/// Where go keeps a module, which it downloads where it has none.
fn module(name: &str) -> anyhow::Result<PathBuf> {
    let answer = said(go().args(["mod", "download", "-json", name]), &format!("download {name}"))?;
    let found: serde_json::Value = serde_json::from_str(&answer).context("read what go downloaded")?;
    found["Dir"].as_str().map(PathBuf::from).with_context(|| format!("find {name}"))
}

fn manifests(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files: Vec<_> = read
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    Ok(files)
}
