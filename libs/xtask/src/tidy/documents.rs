//! Documents that name metrics: the generated table, and runbooks, which may only name what is there.

use super::promql::Known;
use super::rules::listed;
use crate::dashboards;
use anyhow::Context as _;
use attune_telemetry::catalogue;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) fn problems(root: &Path, known: &Known) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let file = crate::metrics::file(root);
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    if text != crate::metrics::rendered() {
        problems.push("docs/metrics.md: is not what `cargo xtask metrics` writes".into());
    }
    let all = dashboards::all();
    let panels: BTreeSet<&str> = all.iter().flat_map(|dashboard| dashboard.panels().map(|panel| panel.title)).collect();
    for file in listed(&root.join("docs/runbooks"), "md")? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        problems
            .extend(of_runbook(&text, &panels, known).into_iter().map(|why| format!("docs/runbooks/{name}: {why}")));
    }
    Ok(problems)
}

/// Panels stand in `*emphasis*`, metrics in `code`.
pub(super) fn of_runbook(text: &str, panels: &BTreeSet<&str>, known: &Known) -> Vec<String> {
    let mut problems = Vec::new();
    for line in prose(text) {
        let unknown = emphasised(line).into_iter().filter(|title| !panels.contains(title));
        problems.extend(unknown.map(|title| format!("no dashboard has a panel *{title}*")));
    }
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let families: BTreeSet<&str> = catalogue::all().filter_map(|metric| metric.name.split('_').next()).collect();
    let metric_like = |word: &&str| {
        let family = word.split('_').next().unwrap_or_default();
        families.contains(family) && ENDINGS.iter().any(|ending| word.ends_with(ending))
    };
    let unknown: BTreeSet<&str> =
        words.filter(metric_like).filter(|word| !known.has(word) && !is_histogram(word)).collect();
    problems.extend(unknown.into_iter().map(|word| format!("no metric is called {word}")));
    problems
}

/// Words that end so and begin like a metric are meant as one.
const ENDINGS: &[&str] =
    &["_total", "_seconds", "_bytes", "_percent", "_ratio", "_bucket", "_count", "_sum", "_lag", "_status"];

/// Text may speak of a histogram as a whole.
fn is_histogram(word: &str) -> bool {
    catalogue::all().any(|metric| metric.name == word)
}

/// Lines outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// What stands between single asterisks; code spans and bold text are not looked into.
fn emphasised(line: &str) -> Vec<&str> {
    let outside: Vec<&str> = line.split('`').step_by(2).collect();
    let mut found = Vec::new();
    for part in outside {
        let pieces: Vec<&str> = part.split('*').collect();
        // A list's bullet is an asterisk with a space behind it.
        let between = pieces.iter().skip(1).step_by(2).take((pieces.len() - 1) / 2);
        found.extend(between.copied().filter(|piece| !piece.is_empty() && !piece.starts_with(' ')));
    }
    found
}
