//! A real Kafka and a real Redis, and a platform whose records are in them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

use crate::platform::*;
use attune_engines::{Engine, KafkaCluster, Redis, RedisOptions as ServerOptions, available};
use attune_runtime::system_clock;
use attune_storage::{
    EventLog, FeatureOptions, FeatureStore, KafkaEventLog, KafkaOptions, RedisFeatureStore, RedisOptions, Topic,
    USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER, partition_of,
};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Until everything acknowledged has its effect.
pub const CATCH_UP: Duration = Duration::from_secs(60);

pub struct Engines {
    pub kafka: KafkaCluster,
    pub redis: Redis,
}

impl Engines {
    pub fn start(test: &str) -> Option<Self> {
        Self::with_brokers(1, test)
    }

    pub fn with_brokers(brokers: usize, test: &str) -> Option<Self> {
        if !available(Engine::Kafka, test) || !available(Engine::Redis, test) {
            return None;
        }
        let kafka = KafkaCluster::start(brokers).unwrap();
        let redis = Redis::start(&ServerOptions { append_only: true, ..Default::default() }).unwrap();
        Some(Self { kafka, redis })
    }

    /// Settings that react within the time of a test.
    pub fn arguments(&self, dir: &Path) -> Vec<String> {
        let config = dir.join("engines.toml");
        let replication = self.kafka.nodes().len();
        let text = format!(
            "[engines.kafka]\npartitions = 4\nreplication = {replication}\ntimeout = \"3s\"\nsession_timeout = \"2s\"\n\
             [engines.redis]\ntimeout = \"100ms\"\n\
             [embedder]\ncheckpoint_every = \"1s\"\n"
        );
        fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap().to_owned();
        let log = format!("kafka://{}", self.kafka.bootstrap());
        vec!["--config".into(), config, "--log".into(), log, "--store".into(), self.redis.url()]
    }

    pub async fn stores(&self) -> (Arc<dyn EventLog>, RedisFeatureStore) {
        let log = KafkaEventLog::connect(KafkaOptions::new(self.kafka.bootstrap(), "check"), system_clock());
        let log: Arc<dyn EventLog> = Arc::new(log.await.unwrap());
        let partitions = log.partitions(Topic::UserEvents).await.unwrap().len() as u16;
        let options =
            RedisOptions { timeout: Duration::from_secs(10), ..RedisOptions::new(self.redis.url(), partitions) };
        let half_life = Duration::from_secs(14 * 86_400);
        let features = FeatureOptions::hourly(half_life, system_clock());
        (log, RedisFeatureStore::connect(options, features).await.unwrap())
    }

    /// A state folder whose records are in the engines, and the arguments of its platform.
    pub fn filled(&self) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("history");
        fs::create_dir(&data).unwrap();
        write_history(&data);
        let arguments = self.arguments(dir.path());
        let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
        all.extend(["--data", data.to_str().unwrap()]);
        let platform = Platform::spawn(&dir.path().join("state"), &all).unwrap();
        assert!(platform.interrupt().success());
        (dir, arguments)
    }
}

pub async fn caught_up(log: &dyn EventLog, store: &dyn FeatureStore) {
    for (topic, consumer) in [(Topic::UserEvents, USER_EVENTS_CONSUMER), (Topic::UserUpdates, USER_UPDATES_CONSUMER)] {
        for bounds in log.partitions(topic).await.unwrap() {
            let applied = store.wait_applied(consumer, bounds.end, CATCH_UP).await.unwrap();
            assert_eq!(applied, bounds.end, "{consumer} of partition {}", partition_of(bounds.end));
        }
    }
}
