//! A strict reader of both exposition formats.

use attune_telemetry::encode::Format;
use std::collections::{BTreeMap, HashSet};

type Labels = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub(crate) struct Exposition {
    pub(crate) samples: BTreeMap<(String, Labels), f64>,
    pub(crate) exemplars: Vec<Exemplar>,
}

#[derive(Debug)]
pub(crate) struct Exemplar {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

impl Exposition {
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted = |have: &Labels| labels.iter().all(|(name, value)| have.get(*name).is_some_and(|v| v == value));
        let mut found = self.samples.iter().filter(|((n, have), _)| n == name && wanted(have));
        found.next().map(|(_, value)| *value)
    }
}

/// Every family is announced with help and type before its samples and once, every sample belongs to the family above it,
/// none comes twice, buckets only grow, and OpenMetrics ends with its mark.
pub(crate) fn parse(text: &str, format: Format) -> Result<Exposition, String> {
    let open = format == Format::OpenMetrics;
    let body = match (open, text.strip_suffix("# EOF\n")) {
        (true, Some(body)) => body,
        (true, None) => return Err("no end mark".into()),
        (false, _) => text,
    };
    let mut read = Exposition::default();
    let (mut families, mut family, mut kind) = (HashSet::new(), String::new(), String::new());
    let mut last_bucket: Option<(Labels, f64, f64)> = None;
    for line in body.lines() {
        let fail = |why: &str| Err(format!("{why}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| format!("no help: {line}"))?;
            if help.is_empty() || !families.insert(name.to_owned()) {
                return fail("empty or repeated help");
            }
            family = name.to_owned();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, found) = rest.split_once(' ').ok_or_else(|| format!("no type: {line}"))?;
            if name != family || !["counter", "gauge", "histogram"].contains(&found) {
                return fail("type of something else");
            }
            kind = found.to_owned();
            continue;
        }
        if line.starts_with('#') || line.is_empty() {
            return fail("neither help, type nor sample");
        }
        let mut rest = line;
        let name = take_name(&mut rest).ok_or_else(|| format!("no name: {line}"))?;
        let labels = if rest.starts_with('{') { take_labels(&mut rest)? } else { Labels::new() };
        let (sample, exemplar) = match rest.split_once(" # ") {
            Some((sample, exemplar)) => (sample, Some(exemplar)),
            None => (rest, None),
        };
        let value = number(sample.trim()).ok_or_else(|| format!("no value: {line}"))?;
        let suffix = name.strip_prefix(&family).ok_or_else(|| format!("under {family}: {line}"))?;
        let allowed: &[&str] = match (kind.as_str(), open) {
            ("counter", true) => &["_total"],
            ("counter" | "gauge", _) => &[""],
            _ => &["_bucket", "_sum", "_count"],
        };
        if !allowed.contains(&suffix) {
            return fail("suffix does not fit the type");
        }
        if kind == "counter" && value < 0.0 {
            return fail("negative counter");
        }
        if let Some(exemplar) = exemplar {
            if !open || suffix != "_bucket" {
                return fail("an exemplar here");
            }
            read.exemplars.push(take_exemplar(exemplar)?);
        }
        if suffix == "_bucket" {
            let mut series = labels.clone();
            let le = series.remove("le").and_then(|le| number(&le)).ok_or_else(|| format!("no bound: {line}"))?;
            if let Some((before, bound, count)) = &last_bucket
                && *before == series
                && (le <= *bound || value < *count)
            {
                return fail("buckets out of order");
            }
            last_bucket = Some((series, le, value));
        }
        if read.samples.insert((name, labels), value).is_some() {
            return fail("twice");
        }
    }
    Ok(read)
}

fn take_name(rest: &mut &str) -> Option<String> {
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
    let (name, tail) = rest.split_at(end);
    *rest = tail;
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then(|| name.to_owned())
}

fn take_labels(rest: &mut &str) -> Result<Labels, String> {
    let whole = *rest;
    let fail = || format!("labels: {whole}");
    let mut labels = Labels::new();
    *rest = rest.strip_prefix('{').ok_or_else(fail)?;
    loop {
        let name = take_name(rest).ok_or_else(fail)?;
        *rest = rest.strip_prefix("=\"").ok_or_else(fail)?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().ok_or_else(fail)? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match chars.next().ok_or_else(fail)?.1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    _ => return Err(fail()),
                }),
                (_, c) => value.push(c),
            }
        };
        *rest = &rest[end..];
        if labels.insert(name, value).is_some() {
            return Err(fail());
        }
        if let Some(tail) = rest.strip_prefix('}') {
            *rest = tail;
            return Ok(labels);
        }
        *rest = rest.strip_prefix(',').ok_or_else(fail)?;
    }
}

/// `{labels} value timestamp`; the labels hold at most 128 characters.
fn take_exemplar(text: &str) -> Result<Exemplar, String> {
    let mut rest = text;
    let labels = take_labels(&mut rest)?;
    let fields: Vec<f64> = rest.split_whitespace().map_while(number).collect();
    let length: usize = labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
    match fields[..] {
        [value, at] if at > 1e9 && length <= 128 => Ok(Exemplar { labels, value }),
        _ => Err(format!("exemplar: {text}")),
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}
