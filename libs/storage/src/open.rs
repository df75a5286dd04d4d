//! Opening a store by the place it is at: a folder of this machine, or the address of an engine.

use crate::{Clock, EmbeddedEventLog, EventLog, KafkaEventLog, KafkaOptions, KafkaSasl, KafkaTls, StorageError};
use attune_config::{HumanDuration, Problems};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// Settings of engines that run beside the platform; used where a place names one.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnginesConfig {
    pub kafka: KafkaConfig,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    pub topic_prefix: String,
    pub partitions: u16,
    pub replication: u16,
    pub retention: HumanDuration,
    pub timeout: HumanDuration,
    pub session_timeout: HumanDuration,
    pub tls: bool,
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub mechanism: String,
    pub username: String,
    pub password_file: PathBuf,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        let KafkaOptions { topic_prefix, partitions, replication, retention, timeout, session_timeout, .. } =
            KafkaOptions::new("", "");
        Self {
            topic_prefix,
            partitions,
            replication,
            retention: HumanDuration(retention),
            timeout: HumanDuration(timeout),
            session_timeout: HumanDuration(session_timeout),
            tls: false,
            ca: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            mechanism: "PLAIN".to_owned(),
            username: String::new(),
            password_file: PathBuf::new(),
        }
    }
}

impl EnginesConfig {
    /// What a type cannot say.
    pub fn check(&self, problems: &mut Problems) {
        let (kafka, second) = (&self.kafka, HumanDuration::secs(1));
        for (name, value) in [("timeout", kafka.timeout), ("session_timeout", kafka.session_timeout)] {
            problems.check(value >= second, &format!("engines.kafka.{name}"), "must be at least a second");
        }
        problems.check(
            kafka.retention >= HumanDuration::secs(60),
            "engines.kafka.retention",
            "must be at least a minute",
        );
        let named = kafka.topic_prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        problems.check(named, "engines.kafka.topic_prefix", "must be letters, digits, '.', '_' and '-'");
        let whole = kafka.username.is_empty() == kafka.password_file.as_os_str().is_empty();
        problems.check(whole, "engines.kafka.password_file", "must be set together with username");
    }
}

impl KafkaConfig {
    fn options(&self, url: &str, instance: &str) -> Result<KafkaOptions, StorageError> {
        let path = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
        let sasl = if self.username.is_empty() {
            None
        } else {
            let password = std::fs::read_to_string(&self.password_file).map_err(|e| {
                StorageError::invalid("engines.kafka.password_file", format!("{}: {e}", self.password_file.display()))
            })?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            Some(KafkaSasl { mechanism: self.mechanism.clone(), username: self.username.clone(), password })
        };
        let tls = self.tls.then(|| KafkaTls {
            ca: path(&self.ca),
            certificate: path(&self.certificate),
            key: path(&self.key),
        });
        Ok(KafkaOptions {
            topic_prefix: self.topic_prefix.clone(),
            partitions: self.partitions,
            replication: self.replication,
            retention: self.retention.get(),
            timeout: self.timeout.get(),
            session_timeout: self.session_timeout.get(),
            tls,
            sasl,
            ..KafkaOptions::from_url(url, instance)?
        })
    }
}

/// Whether a place is an engine's address; otherwise it is a folder.
pub fn is_engine(place: &str) -> bool {
    place.contains("://")
}

/// `kafka://HOST:PORT[,HOST:PORT]`, or a folder.
pub async fn open_event_log(
    place: &str,
    engines: &EnginesConfig,
    instance: &str,
    clock: Clock,
) -> Result<Arc<dyn EventLog>, StorageError> {
    match place.split_once("://") {
        None => Ok(Arc::new(EmbeddedEventLog::open(place.as_ref())?)),
        Some(("kafka", _)) => {
            Ok(Arc::new(KafkaEventLog::connect(engines.kafka.options(place, instance)?, clock).await?))
        }
        Some((scheme, _)) => Err(StorageError::invalid(
            "log",
            format!("there is no engine {scheme}://; there is kafka:// (or a folder)"),
        )),
    }
}
