//! `docs/configuration.md`: every key of every service, its default, its name in the environment, what it does.
//!
//! A service's own keys stand in its `config.toml`, which is compiled in. Those that every process has stand there as well where a
//! service shows them; the others are read from the types that hold them.

use super::cell;
use anyhow::{Context as _, bail};
use attune_telemetry::TelemetryConfig;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

pub(crate) const SERVICES: [&str; 7] = ["edge", "origin", "retrieval", "ranking", "bandit", "llm", "embedder"];
/// Types of the keys that every process has: the prefix, the type, its file.
const SHARED: [(&str, &str, &str); 3] = [
    ("process", "ProcessConfig", "libs/runtime/src/program.rs"),
    ("process.grpc", "GrpcConfig", "libs/runtime/src/grpc.rs"),
    ("process.telemetry", "TelemetryConfig", "libs/telemetry/src/config.rs"),
];

const INTRODUCTION: &str = "\
# Configuration

Written by `cargo xtask reference` from `services/*/config.toml`, and for what all processes share from the types that hold it; a test compares them.
`cargo xtask check deploy api` compares the defaults with what each service prints.

Settings come in this order, the later ones winning: what is compiled in, the file of `--config FILE`, the environment, `--set KEY=VALUE`.
The names in the environment are for a service's own program (`attune-edge`, or `attune service edge`); `attune up --config FILE` reads one file with a table for each service.
An unknown key or a wrong value ends the program with exit code 64 before a port opens, and all of them are named; `--check-config` does only that, `--print-config` prints what holds.

Durations are written with their unit (`250ms`, `2s`, `5m`, `1h`, `7d`), sizes as well (`64MiB`).
A secret is its text, or `{ file = \"PATH\" }`.
";

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// With its sections: `cache.users`.
    pub(crate) path: String,
    /// As TOML writes it; none where leaving it out means something of its own.
    pub(crate) default: Option<String>,
    meaning: String,
}

/// The keys of a service's file, in its order, and those that it shares with all others after them.
pub(crate) fn keys(root: &Path, service: &str) -> anyhow::Result<Vec<Key>> {
    let mut keys = own(root, service)?;
    for key in shared(root)? {
        if !keys.iter().any(|own| own.path == key.path) {
            keys.push(key);
        }
    }
    Ok(keys)
}

pub(super) fn rendered(root: &Path) -> anyhow::Result<String> {
    let mut out = String::from(INTRODUCTION);
    for service in SERVICES {
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            out,
            "\n## {service}\n\nFrom [services/{service}/config.toml](../services/{service}/config.toml).\n\n"
        );
        table(&mut out, service, &own(root, service)?);
    }
    out.push_str("\n## Every process\n\nWhere a service's table above has a key, that is the service's default. `SERVICE` stands for the service's name.\n\n");
    table(&mut out, "service", &shared(root)?);
    Ok(out)
}

fn table(out: &mut String, service: &str, keys: &[Key]) {
    out.push_str("| Key | Default | Environment | Meaning |\n|---|---|---|---|\n");
    for Key { path, default, meaning } in keys {
        let default = default.as_ref().map_or_else(|| "none".to_owned(), |default| format!("`{}`", cell(default)));
        let variable = path.replace('.', "__").to_uppercase();
        let _ = writeln!(
            out,
            "| `{path}` | {default} | `ATTUNE_{}__{variable}` | {} |",
            service.to_uppercase(),
            cell(meaning)
        );
    }
}

fn own(root: &Path, service: &str) -> anyhow::Result<Vec<Key>> {
    let file = root.join("services").join(service).join("config.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let keys = read(&text);
    let table: toml::Table = text.parse().with_context(|| format!("parse {}", file.display()))?;
    // What a reader of lines missed would be missed by everybody.
    let mut paths = Vec::new();
    flatten("", &table, &mut |path, _| paths.push(path.to_owned()));
    for path in paths {
        if !keys.iter().any(|key| key.path == path && key.default.is_some()) {
            bail!("{}: {path} is not understood", file.display());
        }
        if keys.iter().any(|key| key.path == path && key.meaning.is_empty()) {
            bail!("{}: nothing says what {path} does", file.display());
        }
    }
    Ok(keys)
}

/// Comments stand above the key that they are about, or above several; what is commented out is a key without a default.
fn read(text: &str) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let (mut section, mut about_section, mut meaning) = (String::new(), String::new(), String::new());
    let mut is_fresh = true;
    let mut was_default = true;
    for line in text.lines().map(str::trim) {
        let commented = line.strip_prefix('#').map(str::trim_start);
        let (code, is_default) = match commented {
            Some(comment) if assignment(comment).is_none() => {
                if !is_fresh {
                    meaning.clear();
                    is_fresh = true;
                }
                meaning = format!("{meaning} {comment}");
                continue;
            }
            Some(comment) => (comment, false),
            None => (line, true),
        };
        if line.is_empty() {
            meaning.clear();
            is_fresh = true;
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
            about_section = std::mem::take(&mut meaning);
        } else if let Some((name, value)) = assignment(code) {
            let default = is_default.then(|| value.to_owned());
            if !is_fresh && is_default && !was_default {
                // The words were about what is commented out.
                meaning.clear();
            }
            was_default = is_default;
            // A section's words are those of its keys that have none.
            let meaning = if meaning.is_empty() { about_section.clone() } else { meaning.clone() };
            keys.push(Key { path: format!("{section}{name}"), default, meaning: cell(&meaning) });
            is_fresh = false;
        }
    }
    keys
}

/// `key = value`, and not a sentence that holds one.
fn assignment(code: &str) -> Option<(&str, &str)> {
    let (name, value) = code.split_once(" = ")?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_name.then_some((name, value))
}

/// What every process has: from the types, with the words and defaults of the files where one of them shows a key.
fn shared(root: &Path) -> anyhow::Result<Vec<Key>> {
    let mut shown: BTreeMap<String, Key> = BTreeMap::new();
    for service in SERVICES {
        for key in own(root, service)?.into_iter().filter(|key| key.path.starts_with("process.")) {
            let known = shown.entry(key.path.clone()).or_insert_with(|| key.clone());
            known.default = known.default.take().or(key.default);
        }
    }
    let telemetry = toml::Table::try_from(TelemetryConfig::default()).context("write the defaults of telemetry")?;
    let mut defaults = BTreeMap::new();
    flatten("process.telemetry", &telemetry, &mut |path, value| {
        drop(defaults.insert(path.to_owned(), value.to_string()))
    });

    let mut keys = Vec::new();
    for (prefix, name, file) in SHARED {
        let text = std::fs::read_to_string(root.join(file)).with_context(|| format!("read {file}"))?;
        for (field, kind, doc) in fields(&text, name).with_context(|| format!("find {name} in {file}"))? {
            let path = format!("{prefix}.{field}");
            if SHARED.iter().any(|(section, ..)| *section == path) {
                continue;
            }
            let shown = shown.get(&path);
            let default = match kind {
                _ if kind.starts_with("Option<") => None,
                "SocketAddr" => Some("\"127.0.0.1:0\"".to_owned()),
                _ => defaults
                    .get(&path)
                    .cloned()
                    .or_else(|| shown?.default.clone())
                    .or_else(|| (kind == "String").then(|| "\"\"".to_owned())),
            };
            if default.is_none() && !kind.starts_with("Option<") {
                bail!("{path}: nothing says what its default is");
            }
            let default = if path == "process.grpc.listen" { Some("\"127.0.0.1:0\"".to_owned()) } else { default };
            let meaning =
                [doc.as_str(), shown.map_or("", |key| key.meaning.as_str())].into_iter().find(|text| !text.is_empty());
            keys.push(Key {
                path: path.clone(),
                default,
                meaning: meaning.with_context(|| format!("nothing says what {path} does"))?.to_owned(),
            });
        }
    }
    Ok(keys)
}

/// Fields of a struct with public fields: name, type, documentation.
fn fields<'a>(source: &'a str, name: &str) -> Option<Vec<(&'a str, &'a str, String)>> {
    let (_, rest) = source.split_once(&format!("pub struct {name} {{\n"))?;
    let (body, _) = rest.split_once("\n}")?;
    let (mut fields, mut doc) = (Vec::new(), String::new());
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
        } else if let Some((name, kind)) = line.strip_prefix("pub ").and_then(|field| field.split_once(": ")) {
            fields.push((name, kind.trim_end_matches(','), cell(&unlinked(&std::mem::take(&mut doc)))));
        }
    }
    Some(fields)
}

/// Links of rustdoc lead nowhere from a document.
fn unlinked(doc: &str) -> String {
    let mut text = String::new();
    let mut rest = doc;
    while let Some((before, after)) = rest.split_once("](crate::") {
        let (start, name) = before.rsplit_once('[').unwrap_or(("", before));
        text.push_str(start);
        text.push_str(name);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text + rest
}

/// Calls with each value that is no table, under its path.
pub(crate) fn flatten(prefix: &str, table: &toml::Table, found: &mut impl FnMut(&str, &toml::Value)) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(table) => flatten(&path, table, found),
            value => found(&path, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_about_what_follows_them() {
        let text = "# The file.\n\n# How many.\nusers = 1\ncohorts = 2\n\n# Of records.\n[records]\nqueue = 3\n# None when left out: as key = x.\n# file = \"a\"\n# How long.\nevery = \"1s\" \n";
        let found: Vec<_> = read(text).into_iter().map(|key| (key.path, key.default, key.meaning)).collect();
        let key = |path: &str, default: Option<&str>, meaning: &str| {
            (path.to_owned(), default.map(str::to_owned), meaning.to_owned())
        };
        assert_eq!(
            found,
            [
                key("users", Some("1"), "How many."),
                key("cohorts", Some("2"), "How many."),
                key("records.queue", Some("3"), "Of records."),
                key("records.file", None, "None when left out: as key = x."),
                key("records.every", Some("\"1s\""), "How long."),
            ]
        );
    }

    #[test]
    fn fields_are_read_with_their_words() {
        let source = "pub struct A {\n    /// One\n    /// two.\n    pub a: Option<u8>,\n    pub b: String,\n}\n";
        let read = fields(source, "A").unwrap();
        assert_eq!(read, [("a", "Option<u8>", "One two.".to_owned()), ("b", "String", String::new())]);
        assert!(fields(source, "B").is_none());
    }
}
