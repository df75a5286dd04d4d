//! Where the brokers are, and how the topics are to be.

use crate::{MAX_PARTITIONS, StorageError, Topic};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// `HOST:PORT[,HOST:PORT]`: some of the brokers; the others are learnt from them.
    pub brokers: String,
    /// Stands before every topic's name, so that platforms can share a cluster.
    pub topic_prefix: String,
    /// Of `user-events` and `user-updates`, where they are not there yet. What is there stays.
    pub partitions: u16,
    pub replication: u16,
    /// How long user records and dead ones are kept. Item updates are kept for ever: items have their numbers from them.
    pub retention: Duration,
    /// Names this process to the brokers, and its place in a group: a restart under the same name takes it over at once.
    pub instance: String,
    /// Until a record must be durable, or a question answered.
    pub timeout: Duration,
    /// A member of a group that is not heard of for so long has lost its partitions.
    pub session_timeout: Duration,
    pub tls: Option<KafkaTls>,
    pub sasl: Option<KafkaSasl>,
}

/// Encryption; needs the `kafka-ssl` feature of this crate.
#[derive(Debug, Clone, Default)]
pub struct KafkaTls {
    /// Authorities to trust instead of the machine's own.
    pub ca: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Clone)]
pub struct KafkaSasl {
    /// `PLAIN`, or with the `kafka-ssl` feature `SCRAM-SHA-256` and `SCRAM-SHA-512`.
    pub mechanism: String,
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for KafkaSasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSasl")
            .field("mechanism", &self.mechanism)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl KafkaOptions {
    /// Defaults for brokers of one machine.
    pub fn new(brokers: impl Into<String>, instance: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic_prefix: String::new(),
            partitions: 8,
            replication: 1,
            retention: Duration::from_secs(45 * 86_400),
            instance: instance.into(),
            timeout: Duration::from_secs(5),
            session_timeout: Duration::from_secs(6),
            tls: None,
            sasl: None,
        }
    }

    /// From `kafka://HOST:PORT[,HOST:PORT]`.
    pub fn from_url(url: &str, instance: impl Into<String>) -> Result<Self, StorageError> {
        let invalid = |problem: &str| Err(StorageError::invalid("log", format!("{url}: {problem}")));
        let Some(brokers) = url.strip_prefix("kafka://") else { return invalid("must begin with kafka://") };
        let brokers = brokers.strip_suffix('/').unwrap_or(brokers);
        let is_broker = |broker: &str| {
            let parts = broker.rsplit_once(':');
            parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
        };
        if !brokers.split(',').all(is_broker) {
            return invalid("must name brokers as HOST:PORT[,HOST:PORT]");
        }
        Ok(Self::new(brokers, instance))
    }

    pub(super) fn check(&self) -> Result<(), StorageError> {
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            return Err(StorageError::invalid("partitions", format!("must be 1 to {MAX_PARTITIONS}")));
        }
        if self.replication == 0 {
            return Err(StorageError::invalid("replication", "must be at least 1"));
        }
        if self.tls.is_some() && !cfg!(feature = "kafka-ssl") {
            return Err(StorageError::invalid(
                "tls",
                "this build has no TLS to Kafka: build it with the feature kafka-ssl",
            ));
        }
        Ok(())
    }

    pub(super) fn topic(&self, topic: Topic) -> String {
        format!("{}{}", self.topic_prefix, topic.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_brokers() {
        for (url, brokers) in [
            ("kafka://127.0.0.1:9092", Some("127.0.0.1:9092")),
            ("kafka://a:1,b:2/", Some("a:1,b:2")),
            ("kafka://", None),
            ("kafka://a", None),
            ("kafka://a:0", None),
            ("kafka://a:99999", None),
            ("kafka://a:1,", None),
            ("redis://a:1", None),
        ] {
            let options = KafkaOptions::from_url(url, "x");
            assert_eq!(options.as_ref().map(|o| o.brokers.as_str()).ok(), brokers, "{url}");
            if let Err(error) = options {
                assert!(error.to_string().contains(url), "{error}");
            }
        }
    }
}
