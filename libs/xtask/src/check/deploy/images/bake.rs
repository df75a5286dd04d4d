//! The bake file, as buildx evaluates it: a target for each program, with the ports of its settings.

use super::dockerfile::{DOCKERFILE, programs};
use super::{fail_on, read, refused};
use crate::check::deploy::steps::Steps;
use crate::check::process::said;
use crate::tools::go;
use anyhow::Context as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const BAKE: &str = "helm/images/docker-bake.hcl";
const BUILDX: &str = "github.com/docker/buildx/cmd/buildx";
const BUILDX_VERSION: &str = "v0.29.1";

pub(super) fn check(root: &Path, tools: &Path, steps: &mut Steps) {
    let buildx = steps.take("images: buildx", || {
        let buildx = go::required(tools, BUILDX, BUILDX_VERSION)?;
        Ok((buildx, BUILDX_VERSION.to_owned()))
    });
    let Some(buildx) = buildx else { return };
    let print = || {
        let mut bake = Command::new(&buildx);
        bake.args(["bake", "--print", "--file", BAKE]).current_dir(root);
        bake
    };
    steps.check("images: targets of the bake file", || {
        let printed: Value =
            serde_json::from_str(&said(&mut print(), "buildx bake --print")?).context("read the targets")?;
        fail_on(&problems(&printed, &expected(root)?))?;
        Ok(format!("{} targets", printed["target"].as_object().map_or(0, serde_json::Map::len)))
    });
    steps.check("images: a release needs digests", || {
        refused(print().env("RELEASE", "true"), "a release on tags", "must be named by digest")?;
        let digest = format!("example.org/base@sha256:{}", "0".repeat(64));
        let mut pinned = print();
        said(pinned.env("RELEASE", "true").env("RUST", &digest).env("BASE", &digest), "a release on digests")?;
        refused(print().env("RELEASE", "true").env("RUST", &digest), "a release whose base is a tag", "BASE must be")?;
        Ok("refused on tags, taken on digests".to_owned())
    });
}

/// Targets, and their ports.
fn expected(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut targets = BTreeMap::new();
    for program in programs(root)? {
        let folder = root.join("services").join(program.strip_prefix("attune-").unwrap_or(&program));
        let manifest: toml::Table = read(&folder.join("Cargo.toml"))?.parse().context("read a service's Cargo.toml")?;
        let ports = match program.as_str() {
            // The front door, its admin address, and the origin's gRPC.
            "attune" => "8080 9101 9002".to_owned(),
            _ => ports(&read(&folder.join("config.toml"))?)?,
        };
        if manifest.get("features").is_some_and(|features| features.get("cuda").is_some()) {
            targets.insert(format!("{program}-cuda"), ports.clone());
        }
        targets.insert(program, ports);
    }
    Ok(targets)
}

fn ports(settings: &str) -> anyhow::Result<String> {
    let settings: toml::Table = settings.parse().context("read a service's config.toml")?;
    let process = settings.get("process").context("find the process's settings")?;
    let listen = settings.get("listen").or_else(|| process.get("grpc")?.get("listen"));
    let port = |address: Option<&toml::Value>| Some(address?.as_str()?.rsplit_once(':')?.1.to_owned());
    let ports = port(listen).zip(port(process.get("admin"))).context("find a service's ports")?;
    Ok(format!("{} {}", ports.0, ports.1))
}

fn problems(printed: &Value, expected: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    let empty = serde_json::Map::new();
    let targets = printed["target"].as_object().unwrap_or(&empty);
    let unknown = targets.keys().filter(|name| !expected.contains_key(*name));
    problems.extend(unknown.map(|name| format!("{name} is no program that can be built")));
    for (name, ports) in expected {
        let Some(target) = targets.get(name) else {
            problems.push(format!("{name} has no target"));
            continue;
        };
        let args = &target["args"];
        if args["PORTS"] != ports.as_str() {
            problems.push(format!("{name} listens on {ports}, and its target says {}", args["PORTS"]));
        }
        if target["dockerfile"] != DOCKERFILE || target["target"] != "service" {
            problems.push(format!("{name} is not a program's image of {DOCKERFILE}"));
        }
        let attested = target["attest"].to_string();
        problems.extend(
            ["sbom", "provenance"]
                .iter()
                .filter(|kind| !attested.contains(*kind))
                .map(|kind| format!("{name} comes without {kind}")),
        );
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_settings() {
        let expected = expected(&crate::root()).unwrap();
        assert_eq!(expected["attune-edge"], "8080 9101");
        assert_eq!(expected["attune-embedder"], "9007 9107");
        assert!(ports("listen = \"127.0.0.1:8080\"").is_err());
    }

    #[test]
    fn what_the_bake_file_lacks_is_named() {
        let expected = BTreeMap::from([("attune-llm".to_owned(), "9006 9106".to_owned())]);
        let target = serde_json::json!({
            "dockerfile": DOCKERFILE, "target": "service", "args": {"PORTS": "9006 9106"},
            "attest": [{"type": "sbom"}, {"type": "provenance"}],
        });
        let found = |name: &str, change: &dyn Fn(&mut Value)| {
            let mut target = target.clone();
            change(&mut target);
            problems(&serde_json::json!({"target": {name: target}}), &expected)
        };
        assert_eq!(found("attune-llm", &|_| ()), [""; 0]);
        assert_eq!(found("attune-lml", &|_| ()).len(), 2);
        assert_eq!(found("attune-llm", &|t| t["args"]["PORTS"] = "9006".into()).len(), 1);
        assert_eq!(found("attune-llm", &|t| t["target"] = "build".into()).len(), 1);
        assert_eq!(found("attune-llm", &|t| t["attest"] = Value::Null).len(), 2);
    }
}
