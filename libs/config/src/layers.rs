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
            let layer = one.metadata.as_ref().map(|m| m.name.to_string());
            let mut path = one.path.clone();
            let unknown = matches!(one.kind, figment::error::Kind::UnknownField(..));
            if let figment::error::Kind::UnknownField(field, _) = &one.kind
                && path.last() != Some(field)
            {
                path.push(field.clone());
            }
            let problem = Problem { key: path.join("."), message: one.kind.to_string(), layer };
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
