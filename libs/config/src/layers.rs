//! Merging the layers and finding every problem, not only the first.

use figment::providers::{Env, Format as _, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::Path;

/// A file with more mistakes than this is the wrong file.
const MAX_PROBLEMS: usize = 32;

/// One thing that is wrong, with the key it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path, `cache.size`; empty when it is about the whole.
    pub key: String,
    pub message: String,
    /// The layer that wrote it, as people know it.
    pub layer: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.layer {
            Some(layer) => write!(f, " (in {layer})"),
            None => Ok(()),
        }
    }
}

/// Collects what a config's own checks find.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn add(&mut self, key: &str, message: impl Into<String>) {
        self.0.push(Problem { key: key.into(), message: message.into(), layer: None });
    }

    /// `problems.check(limit > 0, "limit", "must be positive")`.
    pub fn check(&mut self, holds: bool, key: &str, message: &str) {
        if !holds {
            self.add(key, message);
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read config file {path}", path = .0.display())]
    Read(std::path::PathBuf, #[source] std::io::Error),
    #[error("config of {service}: {}", join(.problems))]
    Invalid { service: String, problems: Vec<Problem> },
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

/// Loads a service's config: `default_toml` < `file` < `ATTUNE_<SERVICE>__SECTION__KEY` < `overrides` (dotted key,
/// value as on a command line). Let `T` deny unknown fields.
pub fn load<T: DeserializeOwned>(
    service: &str,
    default_toml: &str,
    file: Option<&Path>,
    overrides: &[(String, String)],
) -> Result<T, ConfigError> {
    load_checked(service, default_toml, file, overrides, |_, _| {})
}

/// [`load`], then the config's own checks; their problems are reported together too.
pub fn load_checked<T: DeserializeOwned>(
    service: &str,
    default_toml: &str,
    file: Option<&Path>,
    overrides: &[(String, String)],
    check: impl FnOnce(&T, &mut Problems),
) -> Result<T, ConfigError> {
    let invalid = |problems| ConfigError::Invalid { service: service.into(), problems };
    let defaults = Figment::from(Toml::string(default_toml));
    let mut layered = defaults.clone();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.into(), e))?;
        layered = layered.merge(Named { layer: path.display().to_string(), inner: Toml::string(&text) });
    }
    let prefix = format!("ATTUNE_{}__", service.to_ascii_uppercase().replace('-', "_"));
    let env = Env::prefixed(&prefix).split("__");
    layered = layered.merge(Named { layer: "the environment".into(), inner: env });
    for (key, text) in overrides {
        let Ok(value) = text.parse::<Value>();
        let flag = Serialized::default(key, value);
        layered = layered.merge(Named { layer: format!("flag {key}"), inner: flag });
    }

    let (value, mut problems) = extract::<T>(&layered, &defaults);
    if let Some(value) = &value {
        let mut found = Problems::default();
        check(value, &mut found);
        problems.extend(found.0);
    }
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(invalid(problems)),
    }
}

/// The config as TOML, secrets redacted by their type.
pub fn print_config<T: Serialize>(config: &T) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(config)
}

/// serde stops at the first mistake. So each mistake is noted, then taken out of the tree (an unknown key is removed, a
/// wrong value goes back to its default), and the rest is read again.
fn extract<T: DeserializeOwned>(layered: &Figment, defaults: &Figment) -> (Option<T>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut figment = layered.clone();
    while problems.len() < MAX_PROBLEMS {
        let error = match figment.extract::<T>() {
            Ok(value) => return (Some(value), problems),
            Err(error) => error,
        };
        let mut repaired = false;
        for one in error {
            let mut path = one.path.clone();
            let unknown = matches!(one.kind, figment::error::Kind::UnknownField(..));
            if let figment::error::Kind::UnknownField(field, _) = &one.kind
                && path.last() != Some(field)
            {
                path.push(field.clone());
            }
            let key = path.join(".");
            let wrote = layered.find_metadata(&key).or(one.metadata.as_ref());
            let layer = wrote.map(|metadata| metadata.name.to_string());
            let problem = Problem { key, message: one.kind.to_string(), layer };
            if problems.contains(&problem) {
                return (None, problems);
            }
            problems.push(problem);
            if let Some(next) = without(&figment, defaults, &path, unknown) {
                figment = next;
                repaired = true;
            }
        }
        if !repaired {
            break;
        }
    }
    (None, problems)
}

/// The same tree with the value at `path` removed, or put back to its default when it has one.
fn without(figment: &Figment, defaults: &Figment, path: &[String], unknown: bool) -> Option<Figment> {
    let mut dict = figment.data().ok()?.remove(&Profile::Default)?;
    let (last, parents) = path.split_last()?;
    let mut at: &mut Dict = &mut dict;
    for key in parents {
        at = match at.get_mut(key)? {
            Value::Dict(_, inner) => inner,
            _ => return None,
        };
    }
    let before = at.get(last)?.clone();
    match defaults.find_value(&path.join(".")) {
        Ok(default) if !unknown && default != before => at.insert(last.clone(), default),
        _ => at.remove(last),
    };
    Some(Figment::from(Serialized::from(dict, Profile::Default)))
}

/// A layer under the name people know it by.
struct Named<P> {
    layer: String,
    inner: P,
}

impl<P: figment::Provider> figment::Provider for Named<P> {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(self.layer.clone())
    }

    fn data(&self) -> Result<figment::value::Map<Profile, Dict>, figment::Error> {
        self.inner.data()
    }

    fn profile(&self) -> Option<Profile> {
        self.inner.profile()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ByteSize, HumanDuration, Secret};
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        limit: u32,
        cache: Cache,
        #[serde(default)]
        key: Option<Secret>,
        #[serde(default)]
        weights: BTreeMap<String, f64>,
    }

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Cache {
        size: ByteSize,
        ttl: HumanDuration,
        name: String,
    }

    const DEFAULTS: &str = "limit = 10\n[cache]\nsize = \"64MiB\"\nttl = \"2s\"\nname = \"main\"\n";

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn flag(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    /// The environment is the process's, so what touches it is one test with variables of its own; it runs itself again
    /// as a child, because setting variables in a threaded process is not safe.
    #[test]
    fn layers_override_in_order() {
        const CHILD: &str = "ATTUNE_LAYERTEST__CACHE__TTL";
        let file = file("limit = 20\n[cache]\nttl = \"3s\"\nname = \"file\"\n");
        if std::env::vars_os().any(|(key, _)| key == CHILD) {
            let flags = [flag("cache.name", "flag")];
            let config: Sample = load("layertest", DEFAULTS, Some(file.path()), &flags).unwrap();
            assert_eq!(config.limit, 20, "the file beats the default");
            assert_eq!(config.cache.ttl, HumanDuration::secs(4), "the environment beats the file");
            assert_eq!(config.cache.name, "flag", "a flag beats the environment");
            assert_eq!(config.cache.size, ByteSize(64 << 20), "the default stays");
            return;
        }
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "layers::tests::layers_override_in_order"])
            .env(CHILD, "4s")
            .env("ATTUNE_LAYERTEST__CACHE__NAME", "environment")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }

    #[test]
    fn every_problem_is_reported_at_once_with_its_place() {
        let file = file("limit = \"many\"\nlimmit = 3\n[cache]\nttl = \"soon\"\nsise = \"1MiB\"\n");
        let flags = [flag("cache.size", "7")];
        let error = load::<Sample>("sample", DEFAULTS, Some(file.path()), &flags).unwrap_err();
        let ConfigError::Invalid { problems, .. } = &error else { panic!("{error}") };
        let mut keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["cache.sise", "cache.size", "cache.ttl", "limit", "limmit"], "{error}");
        let layer = |key: &str| problems.iter().find(|p| p.key == key).unwrap().layer.clone().unwrap();
        assert_eq!(layer("cache.ttl"), file.path().display().to_string());
        assert_eq!(layer("limmit"), file.path().display().to_string());
        assert_eq!(layer("cache.size"), "flag cache.size");
        assert!(error.to_string().contains("250ms"), "says what a duration looks like: {error}");
    }

    #[test]
    fn own_checks_join_the_report() {
        let file = file("limit = 0\nunknown = 1\n");
        let error = load_checked::<Sample>("sample", DEFAULTS, Some(file.path()), &[], |config, problems| {
            problems.check(config.limit > 0, "limit", "must be positive");
        })
        .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("limit: must be positive") && text.contains("unknown"), "{text}");
    }

    #[test]
    fn secrets_come_from_files_and_never_print() {
        let secret = file("s3cr3t-value\n");
        let text = format!("[key]\nfile = \"{}\"\n", secret.path().display());
        let config: Sample = load("sample", DEFAULTS, Some(file(&text).path()), &[]).unwrap();
        assert_eq!(config.key.as_ref().unwrap().expose(), b"s3cr3t-value");
        assert!(!format!("{config:?}").contains("s3cr3t"));
        let printed = print_config(&config).unwrap();
        assert!(printed.contains("<redacted>") && !printed.contains("s3cr3t"), "{printed}");
        let error = load::<Sample>("sample", DEFAULTS, None, &[flag("key", "")]).unwrap_err();
        assert!(error.to_string().contains("must not be empty"), "{error}");
    }

    #[test]
    fn what_is_printed_loads_again() {
        let config: Sample = load("sample", DEFAULTS, None, &[flag("weights.a", "0.5")]).unwrap();
        let again: Sample = load("sample", &print_config(&config).unwrap(), None, &[]).unwrap();
        assert_eq!(again.cache.size, config.cache.size);
        assert_eq!(again.weights["a"], 0.5);
    }

    #[test]
    fn broken_files_and_missing_files_say_so() {
        let error = load::<Sample>("sample", DEFAULTS, Some(file("limit = = 3").path()), &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Invalid { .. }), "{error}");
        let error = load::<Sample>("sample", DEFAULTS, Some(Path::new("/nonexistent/x.toml")), &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Read(..)), "{error}");
    }
}
