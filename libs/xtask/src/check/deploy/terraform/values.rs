//! What a region hands over is what the chart takes: rendered with it, by the chart's own schema.

use super::{Terraform, Tested};
use crate::check::process::said;
use crate::tools::kubernetes;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

pub(super) fn run(terraform: &Terraform, tested: &Tested) -> anyhow::Result<String> {
    let sets = regions(&tested.outputs);
    if sets.len() < 2 || !sets.iter().any(|values| !values["llmServer"].is_null()) {
        bail!("tests left {} sets of values, and there must be one with GPUs", sets.len());
    }
    let places = places(&tested.outputs)?;
    for values in &sets {
        for secret in secrets(values) {
            if !places.contains(&secret) {
                bail!("the chart reads the secret {secret}, for which live/platform makes no place");
            }
        }
    }
    let chart = terraform.root.join("helm/attune");
    if !chart.join("values.schema.json").exists() {
        return Ok(format!(
            "{} sets have a place for each secret; NOT compared with the chart, which is not here",
            sets.len()
        ));
    }
    let helm = kubernetes::helm(&crate::tools::folder()?)?;
    let file = terraform.work.path().join("values.json");
    let render = |values: &Value| {
        fs::write(&file, values.to_string()).context("write values")?;
        let mut template = Command::new(&helm);
        template.args(["template", "attune"]).arg(&chart).arg("--values").arg(&file);
        // What is the operator's: the model.
        template.args(["--set", "model.claim=model"]);
        said(&mut template, "render the chart with a region's values")
    };
    for values in &sets {
        let rendered = render(values)?;
        let brokers = values["kafka"]["brokers"][0].as_str().context("find a broker")?;
        if !rendered.contains(brokers) {
            bail!("the rendered chart does not know the broker {brokers}");
        }
    }
    let mut wrong = sets[0].clone();
    wrong["kafka"]["broker"] = json!([]);
    if render(&wrong).is_ok() {
        bail!("the chart takes kafka.broker, which is no value");
    }
    Ok(format!("{} sets render; each secret has its place; kafka.broker is refused", sets.len()))
}

/// `helm_values` of one region, or of several by name.
fn regions(outputs: &[Value]) -> Vec<Value> {
    let mut sets = Vec::new();
    for output in outputs.iter().map(|output| &output["helm_values"]["value"]) {
        if output["kafka"].is_object() {
            sets.push(output.clone());
        } else if let Some(regions) = output.as_object() {
            sets.extend(regions.values().cloned());
        }
    }
    sets
}

fn places(outputs: &[Value]) -> anyhow::Result<BTreeSet<String>> {
    let made = outputs.iter().filter(|output| output["priority_classes"].is_object());
    let places: BTreeSet<String> = made
        .filter_map(|output| output["secrets"]["value"].as_object())
        .flat_map(|made| made.keys().cloned())
        .collect();
    if places.is_empty() {
        bail!("the tests of live/platform left no secrets");
    }
    Ok(places)
}

/// Every `existingSecret`, wherever it is.
fn secrets(values: &Value) -> Vec<String> {
    match values {
        Value::Object(inner) => inner
            .iter()
            .flat_map(|(key, value)| match value.as_str() {
                Some(name) if key == "existingSecret" => vec![name.to_owned()],
                _ => secrets(value),
            })
            .collect(),
        Value::Array(inner) => inner.iter().flat_map(secrets).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{regions, secrets};
    use serde_json::json;

    #[test]
    fn secrets_are_found_at_any_depth() {
        let values = json!({"kafka": {"sasl": {"existingSecret": "a"}}, "more": [{"existingSecret": "b"}], "key": "c"});
        assert_eq!(secrets(&values), ["a", "b"]);
    }

    #[test]
    fn regions_come_alone_or_by_name() {
        let alone = json!({"helm_values": {"value": {"kafka": {}}}});
        let named = json!({"helm_values": {"value": {"x": {"kafka": {}}, "y": {"kafka": {}}}}});
        assert_eq!(regions(&[alone, named, json!({})]).len(), 3);
    }
}
