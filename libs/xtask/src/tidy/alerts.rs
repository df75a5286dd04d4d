//! Alerts, their tests and their runbooks: each has what the others need.

use super::rules::{Rule, listed, parsed};
use anyhow::Context as _;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const SEVERITIES: [&str; 4] = ["critical", "warning", "info", "none"];
/// What the tests of an alert show: it is quiet before, fires, fires for one that fails alone beside a large one that is well,
/// resets, and what happens when its series are gone.
const CASES: [&str; 5] = ["quiet", "fires", "alone", "resets", "absent"];

/// What is wrong in the checkout at `root`, a line each. An error is a file that cannot be read.
pub(super) fn problems(root: &Path, rules: &[Rule]) -> anyhow::Result<Vec<String>> {
    Ok(of_kit(&Kit::read(root, rules)?))
}

/// What belongs to the alerts.
#[derive(Debug, Default)]
struct Kit {
    rules: Vec<Rule>,
    tests: Vec<Test>,
    /// Text by the name of the alert.
    runbooks: BTreeMap<String, String>,
    index: String,
}

#[derive(Debug, Deserialize)]
struct Test {
    name: String,
    #[serde(default)]
    promql_expr_test: Vec<Check>,
}

#[derive(Debug, Deserialize)]
struct Check {
    expr: String,
    #[serde(default)]
    exp_samples: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
struct Sample {}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<Test>,
}

fn of_kit(kit: &Kit) -> Vec<String> {
    let mut problems = Vec::new();
    let alerts = kit.alerts();
    for (name, rules) in &alerts {
        problems.extend(rules.iter().flat_map(|rule| of_rule(name, rule)));
        problems.extend(of_tests(name, rules, kit));
        match kit.runbooks.get(*name) {
            None => problems.push(format!("{name}: docs/runbooks/{name}.md is missing")),
            Some(text) => problems.extend(of_runbook(name, rules, text)),
        }
        if !kit.index.contains(&format!("({name}.md)")) {
            problems.push(format!("{name}: docs/runbooks/README.md does not link its runbook"));
        }
    }
    let unknown = kit.runbooks.keys().filter(|name| !alerts.contains_key(name.as_str()));
    problems.extend(unknown.map(|name| format!("docs/runbooks/{name}.md: no alert has this name")));
    problems.extend(shadowed(kit));
    problems
}

fn of_rule(name: &str, rule: &Rule) -> Vec<String> {
    let mut problems = Vec::new();
    let label = |key: &str| rule.labels.get(key).map_or("", String::as_str);
    let annotation = |key: &str| rule.annotations.get(key).map_or("", |text| text.trim());
    if !SEVERITIES.contains(&label("severity")) {
        problems.push(format!("{name}: severity must be one of {}", SEVERITIES.join(", ")));
    }
    // A burn rate has its service from the recorded series.
    if label("service").is_empty() && !rule.expr.contains("slo:sli_error") {
        problems.push(format!("{name}: the label service is missing"));
    }
    for key in ["summary", "description"] {
        if annotation(key).is_empty() {
            problems.push(format!("{name}: the annotation {key} is missing"));
        }
    }
    let runbook = format!("docs/runbooks/{name}.md");
    if annotation("runbook_url") != runbook {
        problems.push(format!("{name}: runbook_url must be {runbook}"));
    }
    problems
}

/// The name of a test is `Alert: cases, and what else it says`; a case counts where the test asserts what the case claims.
fn of_tests(name: &str, rules: &[&Rule], kit: &Kit) -> Vec<String> {
    let prefix = format!("{name}: ");
    let mut shown = BTreeSet::new();
    for test in kit.tests.iter().filter(|test| test.name.starts_with(&prefix)) {
        let own = test.promql_expr_test.iter().filter(|check| check.expr.contains(&format!("\"{name}\"")));
        let (fires, silent): (Vec<_>, Vec<_>) = own.partition(|check| !check.exp_samples.is_empty());
        let said =
            |case: &str| test.name[prefix.len()..].split(|c: char| !c.is_alphanumeric()).any(|word| word == case);
        let proven = |case: &str| match case {
            "fires" | "alone" => !fires.is_empty(),
            "quiet" | "resets" => !silent.is_empty(),
            _ => !test.promql_expr_test.is_empty(),
        };
        shown.extend(CASES.into_iter().filter(|case| said(case) && proven(case)));
    }
    let always = rules.iter().all(|rule| rule.labels.get("severity").is_some_and(|severity| severity == "none"));
    let wanted: &[&str] = if always { &["fires", "absent"] } else { &CASES };
    let missing: Vec<&str> = wanted.iter().copied().filter(|case| !shown.contains(case)).collect();
    if missing.is_empty() { Vec::new() } else { vec![format!("{name}: no test shows {}", missing.join(", "))] }
}

fn of_runbook(name: &str, rules: &[&Rule], text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.lines().next() != Some(format!("# {name}").as_str()) {
        problems.push(format!("docs/runbooks/{name}.md: the first line must be `# {name}`"));
    }
    let panels: BTreeSet<&str> =
        rules.iter().filter_map(|rule| rule.annotations.get("panel")).map(String::as_str).collect();
    let unnamed = panels.into_iter().filter(|panel| !text.contains(&format!("*{panel}*")));
    problems.extend(unnamed.map(|panel| format!("docs/runbooks/{name}.md: the panel *{panel}* is not named")));
    for section in ["## Meaning", "## Impact", "## Diagnosis", "## Resolution", "## Escalation"] {
        if !text.lines().any(|line| line == section) {
            problems.push(format!("docs/runbooks/{name}.md: `{section}` is missing"));
        }
    }
    problems
}

/// With native histograms the bare name of a histogram is the histogram, so nothing may be recorded under it.
fn shadowed(kit: &Kit) -> Vec<String> {
    let histograms: BTreeSet<&str> = kit.rules.iter().flat_map(|rule| bucket_names(&rule.expr)).collect();
    let recorded = kit.rules.iter().filter_map(|rule| rule.record.as_deref());
    recorded
        .filter(|record| histograms.contains(record))
        .map(|record| format!("{record}: recorded under the name of a histogram"))
        .collect()
}

fn bucket_names(expr: &str) -> impl Iterator<Item = &str> {
    let words = expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter_map(|word| word.strip_suffix("_bucket"))
}

impl Kit {
    fn read(root: &Path, rules: &[Rule]) -> anyhow::Result<Self> {
        let mut kit = Self { rules: rules.to_vec(), ..Self::default() };
        for file in listed(&root.join("observability/prometheus/tests"), "yml")? {
            kit.tests.extend(parsed::<TestFile>(&file)?.tests);
        }
        for file in listed(&root.join("docs/runbooks"), "md")? {
            let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            match file.file_stem().unwrap_or_default().to_string_lossy().as_ref() {
                "README" => kit.index = text,
                name => drop(kit.runbooks.insert(name.to_owned(), text)),
            }
        }
        Ok(kit)
    }

    /// The rules of each alert; a name may have several, as one for each severity.
    fn alerts(&self) -> BTreeMap<&str, Vec<&Rule>> {
        let mut alerts: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
        for rule in &self.rules {
            if let Some(alert) = &rule.alert {
                alerts.entry(alert).or_default().push(rule);
            }
        }
        alerts
    }
}

#[cfg(test)]
mod tests;
