//! Opening a store by the place it is at: a folder of this machine, or the address of an engine.

use crate::kafka::metrics::watch_health;
use crate::redis::metrics::watch_memory;
use crate::{
    Clock, EmbeddedEventLog, EmbeddedFeatureStore, EventLog, FeatureOptions, FeatureStore, KafkaEventLog, KafkaOptions,
    KafkaSasl, KafkaTls, RedisFeatureStore, RedisMetrics, RedisOptions, StorageError,
};
use attune_config::{HumanDuration, Problems};
use attune_telemetry::Telemetry;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Settings of engines that run beside the platform; used where a place names one.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnginesConfig {
    pub kafka: KafkaConfig,
    pub redis: RedisConfig,
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

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedisConfig {
    pub prefix: String,
    pub timeout: HumanDuration,
    pub write_timeout: HumanDuration,
    pub connect_timeout: HumanDuration,
    pub user_ttl: HumanDuration,
    pub fence_ttl: HumanDuration,
    pub outcome_ttl: HumanDuration,
    pub password_file: PathBuf,
}

impl Default for RedisConfig {
    fn default() -> Self {
        let options = RedisOptions::new("", 1);
        Self {
            prefix: options.prefix,
            timeout: HumanDuration(options.timeout),
            write_timeout: HumanDuration(options.write_timeout),
            connect_timeout: HumanDuration(options.connect_timeout),
            user_ttl: HumanDuration(options.user_ttl),
            fence_ttl: HumanDuration(options.fence_ttl),
            outcome_ttl: HumanDuration(options.outcome_ttl),
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

fn set(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

impl RedisConfig {
    fn options(&self, url: &str, partitions: u16) -> RedisOptions {
        RedisOptions {
            password_file: set(&self.password_file),
            prefix: self.prefix.clone(),
            timeout: self.timeout.get(),
            write_timeout: self.write_timeout.get(),
            connect_timeout: self.connect_timeout.get(),
            user_ttl: self.user_ttl.get(),
            fence_ttl: self.fence_ttl.get(),
            outcome_ttl: self.outcome_ttl.get(),
            ..RedisOptions::new(url, partitions)
        }
    }
}

impl KafkaConfig {
    fn options(&self, url: &str, instance: &str) -> Result<KafkaOptions, StorageError> {
        let sasl = if self.username.is_empty() {
            None
        } else {
            let password = std::fs::read_to_string(&self.password_file).map_err(|e| {
                StorageError::invalid("engines.kafka.password_file", format!("{}: {e}", self.password_file.display()))
            })?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            Some(KafkaSasl { mechanism: self.mechanism.clone(), username: self.username.clone(), password })
        };
        let tls =
            self.tls.then(|| KafkaTls { ca: set(&self.ca), certificate: set(&self.certificate), key: set(&self.key) });
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

/// `kafka://HOST:PORT[,HOST:PORT]`, or a folder. `telemetry` hears what an engine's clients say.
pub async fn open_event_log(
    place: &str,
    engines: &EnginesConfig,
    instance: &str,
    clock: Clock,
    telemetry: Option<&Telemetry>,
) -> Result<Arc<dyn EventLog>, StorageError> {
    match place.split_once("://") {
        None => Ok(Arc::new(EmbeddedEventLog::open(place.as_ref())?)),
        Some(("kafka", _)) => {
            let log = Arc::new(KafkaEventLog::connect(engines.kafka.options(place, instance)?, clock).await?);
            if let Some(telemetry) = telemetry {
                tokio::spawn(watch_health(Arc::downgrade(&log), telemetry.clone()));
            }
            Ok(log)
        }
        Some((scheme, _)) => Err(StorageError::invalid(
            "log",
            format!("there is no engine {scheme}://; there is kafka:// (or a folder)"),
        )),
    }
}

/// `redis://HOST:PORT`, its kin for clusters, sentinels and TLS, or a folder. `partitions` are the log's; `telemetry`
/// hears what an engine does.
pub async fn open_feature_store(
    place: &str,
    engines: &EnginesConfig,
    partitions: usize,
    features: FeatureOptions,
    telemetry: &Telemetry,
) -> Result<Arc<dyn FeatureStore>, StorageError> {
    match place.split_once("://") {
        None => Ok(Arc::new(EmbeddedFeatureStore::open(place.as_ref(), features)?)),
        Some((scheme, _)) if scheme.starts_with("redis") => {
            let partitions = u16::try_from(partitions).unwrap_or(u16::MAX);
            let options = RedisOptions {
                observer: Some(RedisMetrics::new(telemetry)),
                ..engines.redis.options(place, partitions)
            };
            let store = Arc::new(RedisFeatureStore::connect(options, features).await?);
            tokio::spawn(watch_memory(Arc::downgrade(&store), telemetry.clone()));
            Ok(store)
        }
        Some((scheme, _)) => Err(StorageError::invalid(
            "store",
            format!("there is no engine {scheme}://; there is redis:// (or a folder)"),
        )),
    }
}
