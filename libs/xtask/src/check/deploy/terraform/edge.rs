//! The settings that a point of presence gives its edge are settings that the edge has: its own `config.toml` is the list.

use super::Terraform;
use anyhow::{Context as _, bail};
use std::collections::BTreeSet;
use std::fs;

pub(super) fn run(terraform: &Terraform) -> anyhow::Result<String> {
    let read = |path: &str| fs::read_to_string(terraform.root.join(path)).with_context(|| format!("read {path}"));
    let known = keys(&read("services/edge/config.toml")?);
    let given = keys(&read("terraform/modules/edge-pop/templates/edge.toml")?);
    compare(&given, &known)?;
    Ok(format!("{} settings, all of them the edge's", given.len()))
}

fn compare(given: &BTreeSet<String>, known: &BTreeSet<String>) -> anyhow::Result<()> {
    if given.is_empty() {
        bail!("an edge is given no settings");
    }
    let unknown: Vec<_> = given.difference(known).map(String::as_str).collect();
    if !unknown.is_empty() {
        bail!("the edge has no {}", unknown.join(", "));
    }
    Ok(())
}

/// Keys with their tables; a key that is shown in a comment is one too.
fn keys(text: &str) -> BTreeSet<String> {
    let mut table = String::new();
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ") {
            let is_key = key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
            if is_key {
                keys.insert(format!("{table}{key}"));
            }
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::{compare, keys};

    #[test]
    fn a_setting_in_another_table_is_unknown() {
        let known = keys("pop = \"a\"\n[own]\norigin = \"b\"\n[process.telemetry]\n# otlp = \"c\"\n");
        assert!(
            compare(&keys("pop = \"x\"\n[own]\norigin = \"y\"\n[process.telemetry]\notlp = \"z\"\n"), &known).is_ok()
        );
        assert!(compare(&keys("origin = \"y\"\n"), &known).is_err());
        assert!(compare(&keys(""), &known).is_err());
    }
}
