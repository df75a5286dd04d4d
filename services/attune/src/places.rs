//! Where a state folder's stores are: in the folder, or with engines that run beside the platform.
//!
//! The folder remembers its engines: a platform that was filled into Kafka does not start on an empty log of its own.

use crate::settings::Settings;
use crate::state::StateFolder;
use crate::up::UpArgs;
use anyhow::Context as _;
use attune_runtime::{Exit, OrExit as _, system_clock};
use attune_storage::{EventLog, StorageError, open_event_log};
use attune_telemetry::Telemetry;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// Addresses of the engines; none means the folder itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Engines {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<String>,
}

const FILE: &str = "engines.json";
const REDIS: [&str; 4] = ["redis", "rediss", "redis-cluster", "redis-sentinel"];

impl Engines {
    /// Those that the folder was filled with.
    pub(crate) fn of(state: &StateFolder) -> anyhow::Result<Self> {
        match std::fs::read(state.root().join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("read {FILE}")).or_exit(Exit::Data),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("read {FILE}")).or_exit(Exit::TryLater),
        }
    }

    /// Those of the arguments, or else of the folder. An engine may move; its kind may not change once the folder is
    /// filled.
    pub(crate) fn choose(state: &StateFolder, args: &UpArgs) -> anyhow::Result<Self> {
        let kept = Self::of(state)?;
        Ok(Self {
            log: pick("--log", &["kafka"], args.log.as_deref(), kept.log.as_deref(), state)?,
            store: pick("--store", &REDIS, args.store.as_deref(), kept.store.as_deref(), state)?,
        })
    }

    /// From now on the folder has these: they could be reached.
    pub(crate) fn keep(&self, state: &StateFolder) -> anyhow::Result<()> {
        if *self == Self::of(state)? {
            return Ok(());
        }
        let bytes = serde_json::to_vec_pretty(self).context("write the engines as JSON")?;
        std::fs::write(state.root().join(FILE), bytes).with_context(|| format!("write {FILE}")).or_exit(Exit::TryLater)
    }
}

fn pick(
    flag: &str,
    schemes: &[&str],
    given: Option<&str>,
    kept: Option<&str>,
    state: &StateFolder,
) -> anyhow::Result<Option<String>> {
    let Some(given) = given else { return Ok(kept.map(str::to_owned)) };
    let scheme = given.split_once("://").map(|(scheme, _)| scheme);
    if !scheme.is_some_and(|scheme| schemes.contains(&scheme)) {
        let built: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://HOST:PORT")).collect();
        return Err(anyhow::anyhow!("{flag} {given}: there is no such engine; there is {}", built.join(", ")))
            .or_exit(Exit::Usage);
    }
    let before = kept.and_then(|kept| kept.split_once("://")).map(|(scheme, _)| scheme);
    if state.filled_marker().exists() && before != scheme {
        return Err(anyhow::anyhow!(
            "{} was filled without {flag} {}://; choose another --state for it",
            state.root().display(),
            scheme.unwrap_or_default()
        ))
        .or_exit(Exit::Usage);
    }
    Ok(Some(given.to_owned()))
}

/// The event log where the settings say it is. `instance` names this process to an engine.
pub(crate) async fn event_log(
    settings: &Settings,
    instance: &str,
    telemetry: Option<&Telemetry>,
) -> anyhow::Result<Arc<dyn EventLog>> {
    let (place, engines) = (&settings.origin.own.event_log, &settings.origin.engines);
    let opened = open_event_log(place, engines, instance, system_clock(), telemetry).await;
    refuse(opened, || format!("open the event log in {place}"))
}

/// The event log of a folder whose platform does not run.
pub(crate) async fn stopped_event_log(state: &StateFolder) -> anyhow::Result<Arc<dyn EventLog>> {
    let place = Engines::of(state)?.log.unwrap_or_else(|| text(&state.event_log()));
    let opened = open_event_log(&place, &Default::default(), "attune-reader", system_clock(), None).await;
    refuse(opened, || format!("open the event log in {place}"))
}

pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub(crate) fn refuse<T>(opened: Result<T, StorageError>, what: impl FnOnce() -> String) -> anyhow::Result<T> {
    opened.map_err(|error| {
        let exit = Exit::from_code(error.exit_code()).unwrap_or(Exit::Internal);
        attune_runtime::Fatal::new(exit, anyhow::Error::new(error).context(what())).into()
    })
}
