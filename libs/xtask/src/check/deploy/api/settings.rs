//! The reference of settings against what each service prints.

use super::fail_on;
use crate::check::deploy::steps::Steps;
use crate::check::process::said;
use crate::reference::configuration::{Key, SERVICES, flatten, keys};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

pub(super) fn check(root: &Path, attune: &Path, steps: &mut Steps) {
    steps.check("api: defaults of the settings", || {
        let mut compared = 0;
        for service in SERVICES {
            let printed =
                said(Command::new(attune).args(["service", service, "--print-config"]), "print a service's settings")?;
            let printed: toml::Table = printed.parse().context("read what a service prints")?;
            let keys = keys(root, service)?;
            let problems: Vec<_> =
                problems(&keys, &printed).into_iter().map(|problem| format!("{service}: {problem}")).collect();
            fail_on(&problems)?;
            compared += keys.len();
        }
        Ok(format!("{compared} keys of {} services", SERVICES.len()))
    });
}

fn problems(keys: &[Key], printed: &toml::Table) -> Vec<String> {
    let mut problems = Vec::new();
    let mut values = BTreeMap::new();
    flatten("", printed, &mut |path, value| drop(values.insert(path.to_owned(), value.clone())));
    for (path, value) in &values {
        match keys.iter().find(|key| key.path == *path) {
            None => problems.push(format!("{path} is in no reference")),
            Some(Key { default: None, .. }) => {
                problems.push(format!("{path} is {value}, and the reference has no default"))
            }
            Some(Key { default: Some(default), .. }) if !same(default, value) => {
                problems.push(format!("{path} is {value}, and the reference says {default}"));
            }
            Some(_) => {}
        }
    }
    let missing = keys.iter().filter(|key| key.default.is_some() && !values.contains_key(&key.path));
    problems.extend(missing.map(|key| format!("{} is in the reference, and the service does not know it", key.path)));
    problems
}

/// `14d` and `336h` are the same, and so are 1 and 1.0, and 0.02 and what 32 bits make of it.
fn same(default: &str, value: &toml::Value) -> bool {
    let Ok(table) = format!("value = {default}").parse::<toml::Table>() else { return false };
    let number = |value: &toml::Value| {
        value.as_float().or_else(|| value.as_integer().map(|number| number as f64)).map(|number| number as f32)
    };
    let Some(default) = table.get("value") else { return false };
    match (default.as_str(), value.as_str()) {
        (Some(default), Some(value)) => {
            default == value || measure(default).is_some() && measure(default) == measure(value)
        }
        _ => default == value || number(default).is_some() && number(default) == number(value),
    }
}

/// Seconds or bytes of a value with a unit.
fn measure(text: &str) -> Option<(bool, f64)> {
    const UNITS: [(&str, bool, f64); 11] = [
        ("ns", true, 1e-9),
        ("us", true, 1e-6),
        ("ms", true, 1e-3),
        ("s", true, 1.0),
        ("m", true, 60.0),
        ("h", true, 3600.0),
        ("d", true, 86400.0),
        ("B", false, 1.0),
        ("KiB", false, 1024.0),
        ("MiB", false, 1048576.0),
        ("GiB", false, 1073741824.0),
    ];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let (_, is_time, factor) = UNITS.iter().find(|(name, ..)| *name == unit)?;
    Some((*is_time, (number.parse::<f64>().ok()? * factor * 1e9).round()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_by_what_they_mean() {
        for (default, value) in [
            ("\"14d\"", "\"336h\""),
            ("1", "1.0"),
            ("0.02", "0.019999999552965164"),
            ("\"64MiB\"", "\"65536KiB\""),
            ("\"a\"", "\"a\""),
        ] {
            assert!(same(default, &format!("v = {value}").parse::<toml::Table>().unwrap()["v"]), "{default} {value}");
        }
        for (default, value) in
            [("\"14d\"", "\"14h\""), ("1", "2"), ("true", "false"), ("\"1s\"", "\"1B\""), ("\"a\"", "\"b\"")]
        {
            assert!(!same(default, &format!("v = {value}").parse::<toml::Table>().unwrap()["v"]), "{default} {value}");
        }
    }

    #[test]
    fn what_the_reference_lacks_is_named() {
        let root = crate::root();
        let keys = keys(&root, "bandit").unwrap();
        let printed = |text: &str| text.parse::<toml::Table>().unwrap();
        let found = problems(&keys, &printed("max_items = 2001\nnew_key = 1\n"));
        assert!(found.iter().any(|problem| problem.contains("max_items is 2001")), "{found:?}");
        assert!(found.iter().any(|problem| problem.contains("new_key is in no reference")), "{found:?}");
        assert!(found.iter().any(|problem| problem.starts_with("max_limit is in the reference")), "{found:?}");
    }
}
