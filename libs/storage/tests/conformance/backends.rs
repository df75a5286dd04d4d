//! How each back-end is made for a test.

use attune_storage::{Clock, FeatureOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub(crate) const DAY: i64 = 86_400_000;
pub(crate) const START: i64 = 20_000 * DAY;
pub(crate) const HALF_LIFE: Duration = Duration::from_secs(86_400);

/// A clock that stands until it is told.
#[derive(Clone)]
pub(crate) struct Time(Arc<AtomicI64>);

impl Time {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    pub(crate) fn set(&self, now: i64) {
        self.0.store(now, Ordering::SeqCst);
    }

    pub(crate) fn options(&self) -> FeatureOptions {
        let clock = self.clone();
        let clock: Clock = Arc::new(move || clock.0.load(Ordering::SeqCst));
        FeatureOptions { half_life: HALF_LIFE, clock }
    }
}

/// A store, its clock, and what must live as long.
pub(crate) struct Held<S: ?Sized> {
    pub(crate) store: Arc<S>,
    pub(crate) time: Time,
    _rest: Option<tempfile::TempDir>,
}

/// A channel to a server of its own on a free port. The server ends with the test's runtime.
async fn serve(router: tonic::transport::server::Router) -> tonic::transport::Channel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(router.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
    tonic::transport::Endpoint::try_from(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn held<S: ?Sized>(store: Arc<S>, time: Time, rest: Option<tempfile::TempDir>) -> Option<Held<S>> {
    Some(Held { store, time, _rest: rest })
}

pub(crate) mod event_log {
    use super::{Held, Time, held};
    use attune_engines::{Engine, Kafka, available};
    use attune_storage::{
        EmbeddedEventLog, EventLog, EventLogGrpc, KafkaEventLog, KafkaOptions, MemoryEventLog, RemoteEventLog,
    };
    use std::sync::Arc;
    use std::time::Duration;

    /// On topics of the case's own, of one partition each.
    pub(crate) async fn kafka(case: &str) -> Option<Held<dyn EventLog>> {
        if !available(Engine::Kafka, case) {
            return None;
        }
        let mut options = KafkaOptions::new(Kafka::shared().unwrap().bootstrap(), case);
        options.topic_prefix = format!("{case}.");
        options.partitions = 1;
        options.timeout = Duration::from_secs(30);
        let time = Time::new();
        let log = KafkaEventLog::connect(options, time.options().clock).await.unwrap();
        held(Arc::new(log), time, None)
    }

    pub(crate) async fn memory(_case: &str) -> Option<Held<dyn EventLog>> {
        held(Arc::new(MemoryEventLog::default()), Time::new(), None)
    }

    pub(crate) async fn embedded(_case: &str) -> Option<Held<dyn EventLog>> {
        let dir = tempfile::tempdir().unwrap();
        held(Arc::new(EmbeddedEventLog::open(dir.path()).unwrap()), Time::new(), Some(dir))
    }

    pub(crate) async fn remote(case: &str) -> Option<Held<dyn EventLog>> {
        let owner = embedded(case).await?;
        let router = tonic::transport::Server::builder()
            .add_service(EventLogGrpc::server(owner.store, tokio::sync::watch::channel(false).1));
        let remote = RemoteEventLog::new(super::serve(router).await, Duration::from_secs(30));
        held(Arc::new(remote), owner.time, owner._rest)
    }
}

pub(crate) mod feature_store {
    use super::{Held, Time, held};
    use attune_engines::{Engine, Redis, available};
    use attune_storage::{
        EmbeddedFeatureStore, FeatureStore, FeatureStoreGrpc, MemoryFeatureStore, RedisFeatureStore, RedisOptions,
        RemoteFeatureStore,
    };
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    pub(crate) async fn memory(_case: &str) -> Option<Held<dyn FeatureStore>> {
        let time = Time::new();
        held(Arc::new(MemoryFeatureStore::new(time.options())), time, None)
    }

    pub(crate) async fn embedded(_case: &str) -> Option<Held<dyn FeatureStore>> {
        let (dir, time) = (tempfile::tempdir().unwrap(), Time::new());
        held(Arc::new(EmbeddedFeatureStore::open(dir.path(), time.options()).unwrap()), time, Some(dir))
    }

    pub(crate) async fn remote(case: &str) -> Option<Held<dyn FeatureStore>> {
        let owner = embedded(case).await?;
        let router = tonic::transport::Server::builder().add_service(FeatureStoreGrpc::server(owner.store));
        let remote = RemoteFeatureStore::new(super::serve(router).await, Duration::from_secs(30));
        held(Arc::new(remote), owner.time, owner._rest)
    }

    /// Of one partition, as the cases have it.
    pub(crate) async fn redis(case: &str) -> Option<Held<dyn FeatureStore>> {
        on_redis(case, 1).await
    }

    pub(crate) async fn redis_of_four(case: &str) -> Option<Held<dyn FeatureStore>> {
        on_redis(case, 4).await
    }

    /// On the one server of all tests, under a prefix of its own.
    async fn on_redis(case: &str, partitions: u16) -> Option<Held<dyn FeatureStore>> {
        static STORES: AtomicU32 = AtomicU32::new(0);
        if !available(Engine::Redis, case) {
            return None;
        }
        let patience = Duration::from_secs(10);
        let options = RedisOptions {
            prefix: format!("{}:", STORES.fetch_add(1, Ordering::Relaxed)),
            timeout: patience,
            write_timeout: patience,
            connect_timeout: patience,
            ..RedisOptions::new(Redis::shared().unwrap().url(), partitions)
        };
        let time = Time::new();
        held(Arc::new(RedisFeatureStore::connect(options, time.options()).await.unwrap()), time, None)
    }
}

pub(crate) mod decision_log {
    use super::{Held, Time, held};
    use attune_storage::{DecisionLog, EmbeddedDecisionLog, MemoryDecisionLog};
    use std::sync::Arc;

    pub(crate) async fn memory(_case: &str) -> Option<Held<dyn DecisionLog>> {
        held(Arc::new(MemoryDecisionLog::default()), Time::new(), None)
    }

    pub(crate) async fn embedded(_case: &str) -> Option<Held<dyn DecisionLog>> {
        let dir = tempfile::tempdir().unwrap();
        held(Arc::new(EmbeddedDecisionLog::open(dir.path()).unwrap()), Time::new(), Some(dir))
    }
}
