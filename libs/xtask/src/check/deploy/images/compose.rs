//! The layers of Compose: the specification's schema, Compose's own loader, and rules that neither has.

use super::pin::{self, Pin};
use super::{fail_on, read, refused};
use crate::check::deploy::steps::Steps;
use crate::check::process::said;
use crate::tools::{containers, packages};
use anyhow::Context as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "helm/compose";
const CORE: &str = "compose.yaml";
const FULL: &str = "compose.full.yaml";
const OBSERVABILITY: &str = "compose.observability.yaml";
const LOGS: &str = "compose.logs.yaml";
const LAYERS: [&str; 4] = [CORE, FULL, OBSERVABILITY, LOGS];
const SHAPES: [&[&str]; 6] =
    [&[CORE], &[CORE, FULL], &[CORE, OBSERVABILITY], &[CORE, FULL, OBSERVABILITY], &[CORE, FULL, LOGS], &LAYERS];
const CHECKER: [&str; 1] = ["check-jsonschema==0.39.0"];

pub(super) fn check(root: &Path, tools: &Path, steps: &mut Steps) {
    let folder = root.join(FOLDER);
    steps.check("images: schema of Compose", || {
        let site = packages::python(tools, "check-jsonschema", &CHECKER)?;
        let check = || {
            let mut check = Command::new("python3");
            check.env("PYTHONPATH", &site).args(["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]);
            check
        };
        for file in LAYERS {
            said(check().arg(folder.join(file)), file)?;
        }
        let bad = tempfile::Builder::new().suffix(".yaml").tempfile().context("create a file")?;
        let text = read(&folder.join(OBSERVABILITY))?.replacen("mem_limit:", "mem_limits:", 1);
        std::fs::write(bad.path(), text).context("write a Compose file")?;
        refused(check().arg(bad.path()), "the key `mem_limits`", "mem_limits")?;
        Ok(format!("{} files; refuses the key `mem_limits`", LAYERS.len()))
    });
    let loader = steps.take("images: Compose's loader", || Ok((containers::compose(tools)?, "compose-go".to_owned())));
    let Some(loader) = loader else { return };
    steps.check("images: layers of Compose", || {
        let mut services = 0;
        let mut mounted = BTreeSet::new();
        for shape in SHAPES {
            let project = load(&loader, &folder, shape)?;
            let name = shape.join(" + ");
            let problems: Vec<_> =
                problems(&project, root).into_iter().map(|problem| format!("{name}: {problem}")).collect();
            fail_on(&problems)?;
            mounted.extend(sources(&project));
            services = services.max(project["services"].as_object().map_or(0, serde_json::Map::len));
        }
        fail_on(&unused(&folder, &mounted)?)?;
        Ok(format!("{} shapes, up to {services} services; {} files and folders mounted", SHAPES.len(), mounted.len()))
    });
    steps.check("images: what Compose refuses", || {
        let work = tempfile::tempdir().context("create a folder")?;
        let text = read(&folder.join(FULL))?;
        for (from, to, word) in [
            ("kafka-data:/var/lib/kafka/data", "nowhere:/var/lib/kafka/data", "nowhere"),
            ("redis: { condition", "rediss: { condition", "rediss"),
            ("mem_limit: 512m", "mem_limit: many", "many"),
            ("  kafka:\n    image", "  other:\n    image", "kafka"),
        ] {
            let file = work.path().join(FULL);
            std::fs::write(&file, text.replacen(from, to, 1)).context("write a Compose file")?;
            refused(Command::new(&loader).arg(folder.join(CORE)).arg(&file), to, word)?;
        }
        Ok("an undeclared volume, services that are not there, a size that is none".to_owned())
    });
}

fn load(loader: &Path, folder: &Path, shape: &[&str]) -> anyhow::Result<Value> {
    let mut load = Command::new(loader);
    load.args(shape.iter().map(|file| folder.join(file)));
    serde_json::from_str(&said(&mut load, &shape.join(" + "))?).context("read the merged project")
}

/// What a merged project breaks.
fn problems(project: &Value, root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut ports: BTreeMap<String, &str> = BTreeMap::new();
    let empty = serde_json::Map::new();
    for (name, service) in project["services"].as_object().unwrap_or(&empty) {
        let mut say = |what: &str| problems.push(format!("{name}: {what}"));
        let image = service["image"].as_str().unwrap_or_default();
        if pin::of(image) == Pin::Moving {
            say(&format!("{image} is not pinned"));
        }
        if service["mem_limit"].is_null() && service["deploy"]["resources"]["limits"]["memory"].is_null() {
            say("has no memory limit");
        }
        // What runs once is over before it could be asked.
        if service["healthcheck"]["test"].is_null() && service["restart"] != "no" {
            say("has no health check");
        }
        if service["cap_drop"] != serde_json::json!(["ALL"]) {
            say("keeps capabilities");
        }
        if !service["security_opt"].to_string().contains("no-new-privileges:true") {
            say("may gain privileges");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            let published = port["published"].as_str().unwrap_or_default();
            if port["host_ip"] != "127.0.0.1" {
                say(&format!("port {published} is open to the network"));
            }
            if let Some(other) = ports.insert(published.to_owned(), name) {
                say(&format!("port {published} is also {other}'s"));
            }
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume["source"].as_str().unwrap_or_default();
            if volume["type"] != "bind" {
                continue;
            }
            if volume["read_only"] != true {
                say(&format!("may write {source}"));
            }
            if !Path::new(source).starts_with(root) || !Path::new(source).exists() {
                say(&format!("{source} is not there"));
            }
        }
    }
    problems
}

/// What a project mounts from the checkout.
fn sources(project: &Value) -> Vec<PathBuf> {
    let services = project["services"].as_object().into_iter().flat_map(|services| services.values());
    let volumes = services.flat_map(|service| service["volumes"].as_array().into_iter().flatten());
    volumes
        .filter(|volume| volume["type"] == "bind")
        .filter_map(|volume| Some(volume["source"].as_str()?.into()))
        .collect()
}

/// What lies beside the layers and is in none of them.
fn unused(folder: &Path, mounted: &BTreeSet<PathBuf>) -> anyhow::Result<Vec<String>> {
    let mut unused = Vec::new();
    for entry in std::fs::read_dir(folder).context("list the files of Compose")? {
        let path = entry.context("list the files of Compose")?.path();
        let is_layer = LAYERS.iter().any(|layer| path.ends_with(layer));
        if !is_layer && !mounted.iter().any(|source| source.starts_with(&path)) {
            unused.push(format!("{}: no service mounts it", path.display()));
        }
    }
    Ok(unused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn project(root: &Path) -> Value {
        let service = |port: &str| {
            json!({
                "image": "redis:7.0.15", "mem_limit": "1", "cap_drop": ["ALL"], "restart": "unless-stopped",
                "healthcheck": {"test": ["CMD", "redis-cli", "ping"]}, "security_opt": ["no-new-privileges:true"],
                "ports": [{"published": port, "host_ip": "127.0.0.1"}],
                "volumes": [{"type": "bind", "source": root.join("Cargo.toml"), "read_only": true},
                            {"type": "volume", "source": "data"}],
            })
        };
        json!({"services": {"one": service("1"), "two": service("2")}})
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        let root = crate::root();
        assert_eq!(problems(&project(&root), &root), [""; 0]);
        for (pointer, value, named) in [
            ("/image", json!("redis:latest"), "not pinned"),
            ("/image", json!("redis"), "not pinned"),
            ("/image", Value::Null, "not pinned"),
            ("/mem_limit", Value::Null, "memory limit"),
            ("/healthcheck", Value::Null, "health check"),
            ("/cap_drop", Value::Null, "capabilities"),
            ("/security_opt", json!([]), "privileges"),
            ("/ports/0/published", json!("2"), "port 2 is also"),
            ("/ports/0/host_ip", Value::Null, "open to the network"),
            ("/volumes/0/read_only", Value::Null, "may write"),
            ("/volumes/0/source", json!(root.join("nothing.yaml")), "is not there"),
            ("/volumes/0/source", json!("/etc/passwd"), "is not there"),
        ] {
            let mut changed = project(&root);
            *changed["services"]["one"].pointer_mut(pointer).unwrap() = value;
            let problems = problems(&changed, &root);
            assert!(problems.len() == 1 && problems[0].contains(named), "{pointer}: {problems:?}");
        }
    }

    #[test]
    fn what_runs_once_needs_no_health_check() {
        let root = crate::root();
        let mut once = project(&root);
        once["services"]["one"]["restart"] = "no".into();
        once["services"]["one"]["healthcheck"] = Value::Null;
        assert_eq!(problems(&once, &root), [""; 0]);
    }
}
