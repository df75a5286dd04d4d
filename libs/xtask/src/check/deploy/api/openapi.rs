//! The OpenAPI document of the edge: its lint, the closed lists and limits of the code, and a running edge.

mod code;

use super::{fail_on, read};
use crate::check::deploy::{refused, steps::Steps};
use crate::check::process::{self, said};
use crate::tools::packages;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const DOCUMENT: &str = "docs/openapi.yaml";
const SPECTRAL: &str = "@stoplight/spectral-cli@6.16.3";
const RULES: &str = "extends: [\"spectral:oas\"]\n";
const VALIDATOR: [&str; 1] = ["jsonschema==4.26.0"];
const CONFORMANCE: &str = include_str!("conformance.py");
/// An edge that sheds soon.
const SHEDDING: &str = "[edge.limits]\nconnections = 4\nclient_rate = 1\nclient_burst = 8\n";

pub(super) fn check(root: &Path, tools: &Path, steps: &mut Steps) {
    steps.check("api: lint of the OpenAPI document", || {
        let spectral = packages::node(tools, SPECTRAL, "spectral")?;
        let work = tempfile::tempdir().context("create a folder")?;
        let rules = work.path().join("rules.yaml");
        std::fs::write(&rules, RULES).context("write spectral's rules")?;
        let lint = |document: &Path| {
            let mut lint = Command::new(&spectral);
            lint.arg("lint").args(["--fail-severity", "warn", "--ruleset"]).arg(&rules).arg(document);
            lint
        };
        said(&mut lint(&root.join(DOCUMENT)), "spectral")?;
        let bad = work.path().join("openapi.yaml");
        let text = read(&root.join(DOCUMENT))?.replacen("operationId: feedback", "operationId: explain", 1);
        std::fs::write(&bad, text).context("write a document")?;
        refused(&mut lint(&bad), "an operation's name twice", "operation-operationId-unique")?;
        Ok("no warning; refuses an operation's name twice".to_owned())
    });
    steps.check("api: OpenAPI document and code", || {
        let document = document(root)?;
        fail_on(&code::problems(&document, &code::Sources::read(root)?)?)?;
        let routes = document["paths"].as_object().map_or(0, serde_json::Map::len);
        Ok(format!("{routes} routes; fields, limits, closed lists and types of problems as in the code"))
    });
}

fn document(root: &Path) -> anyhow::Result<Value> {
    serde_saphyr::from_str(&read(&root.join(DOCUMENT))?).context("read the OpenAPI document")
}

/// The document against a running edge, and changed documents, none of which may hold.
pub(super) fn conform(root: &Path, tools: &Path, attune: &Path, steps: &mut Steps) {
    let prepared = steps.take("api: validator", || {
        let site = packages::python(tools, "jsonschema", &VALIDATOR)?;
        let work = tempfile::tempdir().context("create a folder")?;
        std::fs::write(work.path().join("conformance.py"), CONFORMANCE).context("write the comparison")?;
        std::fs::write(work.path().join("shedding.toml"), SHEDDING).context("write settings")?;
        Ok(((site, work, document(root)?), VALIDATOR.join(", ")))
    });
    let Some((site, work, document)) = prepared else { return };
    let check = Check { site, work: work.path().to_owned(), attune: attune.to_owned() };
    steps.check("api: a running edge", || {
        let (server, edge, admin) = check.start(&[])?;
        let seen = check.hold(&document, &[], &edge, &admin)?;
        let refused = changes();
        for (name, change, word) in &refused {
            let mut changed = document.clone();
            change(&mut changed).with_context(|| format!("change the document: {name}"))?;
            match check.hold(&changed, &[], &edge, &admin) {
                Ok(_) => bail!("a document with {name} was taken"),
                Err(error) if format!("{error:#}").contains(word) => {}
                Err(error) => return Err(error.context(format!("a document with {name} was refused without {word}"))),
            }
        }
        drop(server);
        Ok(format!("{}; {} changed documents refused", seen.trim(), refused.len()))
    });
    steps.check("api: an edge that sheds", || {
        let (_server, edge, admin) = check.start(&["--config", "shedding.toml"])?;
        check.hold(&document, &["--shed"], &edge, &admin).map(|seen| seen.trim().to_owned())
    });
}

struct Check {
    site: PathBuf,
    work: PathBuf,
    attune: PathBuf,
}

impl Check {
    fn start(&self, more: &[&str]) -> anyhow::Result<(process::Server, String, String)> {
        let mut up = Command::new(&self.attune);
        up.current_dir(&self.work).args(["up", "--json", "--listen", "127.0.0.1:0", "--state", "state"]).args(more);
        let (server, line) = process::ready(&mut up, &self.work.join("attune.log"))?;
        let edge = line["edge"].as_str().context("find the edge's address")?.to_owned();
        let admin = line["admin"]["edge"].as_str().context("find the admin address")?.to_owned();
        Ok((server, edge, admin))
    }

    fn hold(&self, document: &Value, more: &[&str], edge: &str, admin: &str) -> anyhow::Result<String> {
        std::fs::write(self.work.join("openapi.json"), document.to_string()).context("write the document")?;
        let mut python = Command::new("python3");
        python.current_dir(&self.work).env("PYTHONPATH", &self.site).arg("conformance.py").args(more);
        said(python.args(["openapi.json", edge, admin]), "hold the edge against its document")
    }
}

type Change = fn(&mut Value) -> Option<()>;

/// What a document may not say of this edge, and a word of the difference.
fn changes() -> Vec<(&'static str, Change, &'static str)> {
    fn put(document: &mut Value, pointer: &str, value: Value) -> Option<()> {
        *document.pointer_mut(pointer)? = value;
        Some(())
    }
    fn object<'a>(document: &'a mut Value, pointer: &str) -> Option<&'a mut serde_json::Map<String, Value>> {
        document.pointer_mut(pointer)?.as_object_mut()
    }
    vec![
        (
            "a wider limit",
            |d| put(d, "/components/schemas/PersonalizeRequest/properties/limit/maximum", json!(200)),
            "refused",
        ),
        ("a tighter limit", |d| put(d, "/components/schemas/Event/properties/position/maximum", json!(9998)), "took"),
        ("one attribute more", |d| put(d, "/components/schemas/Attributes/maxProperties", json!(65)), "refused"),
        (
            "a renamed field",
            |d| {
                let fields = object(d, "/components/schemas/Page/properties")?;
                let field = fields.remove("watermark")?;
                fields.insert("watermarks".to_owned(), field);
                Some(())
            },
            "watermark",
        ),
        (
            "a kind of page that there is not",
            |d| {
                d.pointer_mut("/components/schemas/PageType/enum")?
                    .as_array_mut()
                    .map(|kinds| kinds.push(json!("checkout")))
            },
            "checkout",
        ),
        (
            "a type of problem too few",
            |d| {
                let kinds = d.pointer_mut("/components/schemas/Problem/properties/type/enum")?.as_array_mut()?;
                kinds.retain(|kind| kind != "urn:attune:problem:body-too-large");
                Some(())
            },
            "body-too-large",
        ),
        (
            "a status too few",
            |d| object(d, "/paths/~1v1~1feedback/post/responses")?.remove("415").map(drop),
            "no such status",
        ),
        (
            "a route too many",
            |d| {
                let mut route = d.pointer("/paths/~1livez")?.clone();
                put(&mut route, "/get/operationId", json!("nothing"))?;
                object(d, "/paths")?.insert("/v1/nothing".to_owned(), route);
                Some(())
            },
            "/v1/nothing",
        ),
        (
            "a method too few",
            |d| object(d, "/paths/~1v1~1users~1{id}")?.remove("delete").map(drop),
            "no such operation",
        ),
        (
            "another header",
            |d| put(d, "/components/headers/ServerTiming/schema/pattern", json!("^origin;")),
            "server-timing",
        ),
    ]
}
