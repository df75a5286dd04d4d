//! Settings that every client has, and what clients say about themselves.

use super::options::KafkaOptions;
use crate::StorageError;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use std::collections::BTreeMap;
use std::sync::Arc;

/// As of the last second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KafkaHealth {
    /// Round trip to each broker that is connected, the 99th percentile in seconds, by its name.
    pub round_trips: BTreeMap<String, f64>,
    /// Messages waiting to be sent, over all clients of this process.
    pub queued: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Errors that clients reported, such as lost connections.
    pub errors: u64,
}

/// What the clients of a log have said. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(super) struct Observer(Arc<Mutex<Observed>>);

#[derive(Default)]
struct Observed {
    last_error: Option<String>,
    errors: u64,
    clients: BTreeMap<String, KafkaHealth>,
}

impl Observer {
    pub(super) fn last_error(&self) -> Option<String> {
        self.0.lock().last_error.clone()
    }

    pub(super) fn health(&self) -> KafkaHealth {
        let observed = self.0.lock();
        let mut all = KafkaHealth { errors: observed.errors, ..Default::default() };
        for client in observed.clients.values() {
            for (broker, seconds) in &client.round_trips {
                let worst = all.round_trips.entry(broker.clone()).or_default();
                *worst = worst.max(*seconds);
            }
            all.queued += client.queued;
            all.retries += client.retries;
        }
        all
    }
}

impl ClientContext for Observer {
    // Errors are returned by the calls they concern, and counted. What is said of a connection that failed is kept:
    // the call only tells that there is none.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            // `[thrd:HOST:PORT/bootstrap]: HOST:PORT/bootstrap: what failed (after 0ms in state CONNECT, ...)`
            let what = message.split("]: ").last().unwrap_or(message);
            let what = what.split_once(": ").map_or(what, |(_, what)| what);
            let what = what.split(" (after ").next().unwrap_or(what);
            self.0.lock().last_error = Some(what.to_owned());
        }
    }

    fn error(&self, _: KafkaError, _: &str) {
        self.0.lock().errors += 1;
    }

    fn stats(&self, statistics: Statistics) {
        let connected = statistics.brokers.values().filter(|broker| broker.nodeid >= 0 && broker.state == "UP");
        let round_trip =
            |broker: &rdkafka::statistics::Broker| broker.rtt.as_ref().map_or(0.0, |rtt| rtt.p99 as f64 / 1e6);
        let health = KafkaHealth {
            round_trips: connected.map(|broker| (broker.nodename.clone(), round_trip(broker))).collect(),
            queued: statistics.msg_cnt,
            retries: statistics.brokers.values().map(|broker| broker.txretries).sum(),
            errors: 0,
        };
        self.0.lock().clients.insert(statistics.name, health);
    }
}

impl ConsumerContext for Observer {}

/// Makes clients.
pub(super) struct Client<'a> {
    config: ClientConfig,
    observer: &'a Observer,
}

impl<'a> Client<'a> {
    pub(super) fn new(options: &KafkaOptions, observer: &'a Observer) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &options.brokers)
            .set("client.id", &options.instance)
            // After a broker's restart the defaults need seconds to come back.
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            .set("retry.backoff.ms", "20")
            .set("retry.backoff.max.ms", "200")
            .set("topic.metadata.refresh.fast.interval.ms", "50")
            .set("socket.connection.setup.timeout.ms", "1000")
            .set("socket.timeout.ms", "3000")
            .set("socket.nagle.disable", "true")
            .set("broker.address.family", "any")
            .set("message.max.bytes", super::topics::MAX_MESSAGE_BYTES.to_string())
            .set("statistics.interval.ms", "1000");
        let protocol = match (&options.tls, &options.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(sasl) = &options.sasl {
            config.set("sasl.mechanisms", &sasl.mechanism);
            config.set("sasl.username", &sasl.username).set("sasl.password", &sasl.password);
        }
        let tls = options.tls.clone().unwrap_or_default();
        for (key, path) in
            [("ssl.ca.location", tls.ca), ("ssl.certificate.location", tls.certificate), ("ssl.key.location", tls.key)]
        {
            if let Some(path) = path {
                config.set(key, path.to_string_lossy());
            }
        }
        Self { config, observer }
    }

    pub(super) fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.config.set(key, value);
        self
    }

    pub(super) fn make<T: FromClientConfigAndContext<C>, C: ClientContext>(
        &self,
        context: C,
    ) -> Result<T, StorageError> {
        T::from_config_and_context(&self.config, context)
            .map_err(|e| StorageError::invalid("kafka", format!("make a client: {e}")))
    }

    /// A consumer that is nobody's member: it is told what to read. `purpose` tells it apart from the others.
    pub(super) fn consumer<T: FromClientConfigAndContext<Observer>>(self, purpose: &str) -> Result<T, StorageError> {
        let reader = self
            .set("group.id", format!("attune-{purpose}"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error");
        reader.make(reader.observer.clone())
    }
}

/// An answer that did not come, or a broker that cannot be reached.
pub(super) fn unavailable(error: &KafkaError) -> StorageError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            StorageError::invalid("records", "are larger than the brokers take")
        }
        Some(RDKafkaErrorCode::QueueFull) => StorageError::Overloaded,
        _ => StorageError::Unavailable,
    }
}
