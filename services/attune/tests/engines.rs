//! The platform on a real Kafka and a real Redis, which are killed, frozen and emptied under load, as are its own
//! processes: visitors get every page, and in the end each acknowledged event has its effect once.
//! `ATTUNE_TEST_SEED` repeats a run; `ATTUNE_FAULTS` sets the number of faults.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/feed.rs"]
mod feed;
#[path = "support/platform.rs"]
mod platform;

use attune_engines::{Engine, Kafka, KafkaOptions as BrokerOptions, Redis, RedisOptions as ServerOptions, available};
use attune_identity::SubjectKey;
use attune_runtime::system_clock;
use attune_storage::{
    EventLog, FeatureOptions, FeatureStore, KafkaEventLog, KafkaOptions, RedisFeatureStore, RedisOptions, Topic,
    USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER, checkpoint_path, partition_of,
};
use feed::{CLIENTS, Client, check};
use platform::*;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Events a second of all clients together.
const RATE: f64 = 500.0;
/// No page may take longer, whatever has happened.
const PATIENCE: Duration = Duration::from_secs(2);
const PAGES_PER_SECOND: u64 = 40;
const CATCH_UP: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillEmbedder,
    KillOrigin,
    KillBroker,
    EmptyRedis,
    FreezeRedis,
    RestartRedis,
    BothGone,
}

const ALL: [Fault; 7] = [
    Fault::KillEmbedder,
    Fault::KillOrigin,
    Fault::KillBroker,
    Fault::EmptyRedis,
    Fault::FreezeRedis,
    Fault::RestartRedis,
    Fault::BothGone,
];

struct Engines {
    kafka: Kafka,
    redis: Redis,
}

impl Engines {
    fn start(test: &str) -> Option<Self> {
        if !available(Engine::Kafka, test) || !available(Engine::Redis, test) {
            return None;
        }
        let kafka = Kafka::start(&BrokerOptions::default()).unwrap();
        let redis = Redis::start(&ServerOptions { append_only: true, ..Default::default() }).unwrap();
        Some(Self { kafka, redis })
    }

    /// Settings that react within the time of a test.
    fn arguments(&self, dir: &Path) -> Vec<String> {
        let config = dir.join("engines.toml");
        let text = "[engines.kafka]\npartitions = 4\ntimeout = \"3s\"\nsession_timeout = \"2s\"\n\
                    [engines.redis]\ntimeout = \"100ms\"\n\
                    [embedder]\ncheckpoint_every = \"1s\"\n";
        fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap().to_owned();
        let log = format!("kafka://{}", self.kafka.bootstrap());
        vec!["--config".into(), config, "--log".into(), log, "--store".into(), self.redis.url()]
    }

    async fn stores(&self) -> (Arc<dyn EventLog>, RedisFeatureStore) {
        let log = KafkaEventLog::connect(KafkaOptions::new(self.kafka.bootstrap(), "check"), system_clock());
        let log: Arc<dyn EventLog> = Arc::new(log.await.unwrap());
        let partitions = log.partitions(Topic::UserEvents).await.unwrap().len() as u16;
        let options =
            RedisOptions { timeout: Duration::from_secs(10), ..RedisOptions::new(self.redis.url(), partitions) };
        let half_life = Duration::from_secs(14 * 86_400);
        let features = FeatureOptions::hourly(half_life, system_clock());
        (log, RedisFeatureStore::connect(options, features).await.unwrap())
    }
}

/// A state folder whose records are in the engines.
fn filled(engines: &Engines) -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("history");
    fs::create_dir(&data).unwrap();
    write_history(&data);
    let arguments = engines.arguments(dir.path());
    let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    all.extend(["--data", data.to_str().unwrap()]);
    let platform = Platform::spawn(&dir.path().join("state"), &all).unwrap();
    assert!(platform.interrupt().success());
    (dir, arguments)
}

/// Pages at a constant rate; what was not a page, or late, is told.
struct Pages {
    stop: AtomicBool,
    served: AtomicU64,
    degraded: AtomicU64,
}

impl Pages {
    async fn ask(self: Arc<Self>, edge: Site) -> Vec<String> {
        let mut failures = Vec::new();
        let mut every = tokio::time::interval(Duration::from_secs(1) / PAGES_PER_SECOND as u32);
        for turn in 0u64.. {
            every.tick().await;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let user = if turn % 3 == 0 { format!("newcomer {turn}") } else { format!("u{}", turn % 20) };
            let began = Instant::now();
            match edge.try_post("/v1/personalize", &json!({"user_id": user, "limit": 10})).await {
                Ok(answer) if answer.status == 200 && began.elapsed() < PATIENCE => {
                    self.served.fetch_add(1, Ordering::Relaxed);
                    self.degraded.fetch_add(u64::from(answer.json()["level"] != 0), Ordering::Relaxed);
                }
                Ok(answer) => {
                    failures.push(format!("{} after {:?}: {}", answer.status, began.elapsed(), answer.text()))
                }
                Err(error) => failures.push(error),
            }
        }
        failures
    }
}

async fn caught_up(log: &dyn EventLog, store: &dyn FeatureStore) {
    for (topic, consumer) in [(Topic::UserEvents, USER_EVENTS_CONSUMER), (Topic::UserUpdates, USER_UPDATES_CONSUMER)] {
        for bounds in log.partitions(topic).await.unwrap() {
            let applied = store.wait_applied(consumer, bounds.end, CATCH_UP).await.unwrap();
            assert_eq!(applied, bounds.end, "{consumer} of partition {}", partition_of(bounds.end));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_has_its_effect_once_whatever_dies() {
    let name = "what_is_acknowledged_has_its_effect_once_whatever_dies";
    let faults = std::env::var_os("ATTUNE_FAULTS").and_then(|faults| faults.to_str()?.parse::<u64>().ok());
    let Some(faults) = faults else {
        eprintln!("skipped: {name}: ATTUNE_FAULTS does not say how many faults (cargo xtask faults)");
        return;
    };
    let Some(mut engines) = Engines::start(name) else { return };
    let _alone = feed::alone().await;
    let mut rng = Rng::of_run();
    let (dir, arguments) = filled(&engines);
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("--separate");
    let platform = Platform::start(&dir, &arguments);
    let feeding: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = Client::new(number, Rng(rng.next(u64::MAX)), RATE);
            tokio::spawn(client.feed_until_stopped(platform.edge.clone()))
        })
        .collect();
    let pages =
        Arc::new(Pages { stop: AtomicBool::new(false), served: AtomicU64::new(0), degraded: AtomicU64::new(0) });
    let asking = tokio::spawn(Arc::clone(&pages).ask(platform.edge.clone()));

    for round in 0..faults {
        tokio::time::sleep(Duration::from_millis(500 + rng.next(1_500))).await;
        // Each kind once, then any.
        let fault = *ALL.get(round as usize).unwrap_or(&ALL[rng.next(ALL.len() as u64) as usize]);
        println!("{fault:?}");
        tokio::task::block_in_place(|| strike(fault, &mut engines, &platform, Duration::from_millis(rng.next(1_500))));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    feed::stop();
    let mut clients = Vec::new();
    for client in feeding {
        clients.push(client.await.unwrap());
    }
    pages.stop.store(true, Ordering::Relaxed);
    let failures = asking.await.unwrap();
    let (log, store) = engines.stores().await;
    caught_up(&*log, &store).await;
    assert!(platform.interrupt().success());
    let acknowledged: Vec<_> = clients.iter().flat_map(|client| client.acknowledged.iter().cloned()).collect();
    println!(
        "{faults} faults: {} events acknowledged, {} pages, {} of them degraded",
        acknowledged.len(),
        pages.served.load(Ordering::Relaxed),
        pages.degraded.load(Ordering::Relaxed)
    );
    assert!(failures.is_empty(), "{} of the pages failed, such as {:?}", failures.len(), &failures[..1]);
    let key = SubjectKey::load(&dir.path().join("state/keys/subject.key")).unwrap();
    check(&*log, &store, &key, &acknowledged, true).await;
}

fn strike(fault: Fault, engines: &mut Engines, platform: &Platform, pause: Duration) {
    let kill = |service: &str| {
        // One that is just being started again has died already.
        if let Some(pid) = platform.pid_of(service) {
            signal(pid, libc::SIGKILL);
        }
    };
    match fault {
        Fault::KillEmbedder => kill("embedder"),
        Fault::KillOrigin => kill("origin"),
        Fault::KillBroker => {
            engines.kafka.kill().unwrap();
            std::thread::sleep(pause);
            engines.kafka.restart().unwrap();
        }
        Fault::EmptyRedis => {
            engines.redis.kill().unwrap();
            std::thread::sleep(pause);
            engines.redis.restart_empty().unwrap();
        }
        Fault::FreezeRedis => {
            engines.redis.pause().unwrap();
            std::thread::sleep(pause);
            engines.redis.resume().unwrap();
        }
        Fault::RestartRedis => {
            engines.redis.kill().unwrap();
            std::thread::sleep(pause);
            engines.redis.restart().unwrap();
        }
        Fault::BothGone => {
            engines.redis.kill().unwrap();
            engines.kafka.kill().unwrap();
            std::thread::sleep(pause);
            engines.redis.restart().unwrap();
            engines.kafka.restart().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_is_filled_from_the_checkpoints_of_all_partitions() {
    const EMPTIED: u32 = 3;
    let name = "an_emptied_redis_is_filled_from_the_checkpoints_of_all_partitions";
    let Some(mut engines) = Engines::start(name) else { return };
    let _alone = feed::alone().await;
    let mut rng = Rng::of_run();
    let (dir, arguments) = filled(&engines);
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("--separate");
    let platform = Platform::start(&dir, &arguments);
    let feeding: Vec<_> = (0..CLIENTS)
        .map(|number| Client::new(number, Rng(rng.next(u64::MAX)), RATE))
        .map(|client| tokio::spawn(client.feed_until_stopped(platform.edge.clone())))
        .collect();
    let (log, store) = engines.stores().await;
    let count = log.partitions(Topic::UserEvents).await.unwrap().len();
    let folder = dir.path().join("state/checkpoints");
    let began = Instant::now();
    while (0..count as u16).any(|partition| !checkpoint_path(&folder, partition).exists()) {
        assert!(began.elapsed() < CATCH_UP, "a checkpoint of each partition");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..EMPTIED {
        tokio::time::sleep(Duration::from_millis(1_000 + rng.next(1_500))).await;
        tokio::task::block_in_place(|| strike(Fault::EmptyRedis, &mut engines, &platform, Duration::ZERO));
        let began = Instant::now();
        while store.user_count().await.is_ok_and(|users| users == 0) {
            assert!(began.elapsed() < CATCH_UP, "it is filled again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    feed::stop();
    let mut clients = Vec::new();
    for client in feeding {
        clients.push(client.await.unwrap());
    }
    caught_up(&*log, &store).await;
    let embedder = Site::new(platform.ready["admin"]["embedder"].as_str().unwrap());
    // The counters are copied every half second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let metrics = embedder.get("/metrics").await.text();
    assert!(platform.interrupt().success());
    let value = |series: &str| {
        let line = metrics.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("{series}: {metrics}"))
    };
    let restores = value(r#"embedder_restores_total{from="checkpoint"}"#);
    println!(
        "{restores} restorations, {} records from checkpoints, {} bytes of them",
        value("embedder_restored_records_total"),
        value("embedder_checkpoint_bytes")
    );
    assert!(restores >= f64::from(EMPTIED) * count as f64);
    assert_eq!(value(r#"embedder_restores_total{from="log"}"#), 0.0, "nothing was replayed from its start");
    assert!(value("streaming_checkpoint_duration_seconds_count") >= count as f64);
    let acknowledged: Vec<_> = clients.iter().flat_map(|client| client.acknowledged.iter().cloned()).collect();
    let key = SubjectKey::load(&dir.path().join("state/keys/subject.key")).unwrap();
    check(&*log, &store, &key, &acknowledged, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_remembers_its_engines() {
    let Some(engines) = Engines::start("a_folder_remembers_its_engines") else { return };
    let (dir, arguments) = filled(&engines);
    let config = &arguments[1];
    // Without flags it finds them again.
    let platform = Platform::start(&dir, &["--config", config]);
    for user in 1..30 {
        // Beside the other tests' servers a stage may miss its deadline, but not again and again.
        let mut page = json!(null);
        for _ in 0..10 {
            page = platform.edge.page(&format!("u{user}")).await.json();
            if page["level"] == 0 {
                break;
            }
        }
        assert!(page["level"] == 0 || page["level_reason"] == "baseline_holdout", "{page}");
    }
    let fed = platform.edge.post("/v1/feedback", &json!({"events": [event("e-1", "click", "u1", "i7")]})).await;
    assert_eq!(fed.status, 202, "{}", fed.text());
    let again = platform.edge.post("/v1/feedback", &json!({"events": [event("e-1", "click", "u1", "i7")]})).await;
    assert_eq!(again.json()["duplicates"], 1);
    let (log, store) = engines.stores().await;
    caught_up(&*log, &store).await;
    assert!(platform.interrupt().success());

    // Another folder does not mix with it.
    let other = tempfile::tempdir().unwrap();
    let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let history = dir.path().join("history");
    all.extend(["--data", history.to_str().unwrap()]);
    let refused = refusal(&other.path().join("state"), &all);
    assert!(refused.contains("holds 300 records of another platform"), "{refused}");
    // Nor does a folder that was filled without.
    let embedded = state();
    let refused = refusal(&embedded.path().join("state"), &["--log", "kafka://127.0.0.1:1"]);
    assert!(refused.contains("was filled without --log kafka://"), "{refused}");
    let refused = refusal(&embedded.path().join("state"), &["--store", "etcd://127.0.0.1:1"]);
    assert!(refused.contains("no such engine") && refused.contains("redis://"), "{refused}");
    // What is away is named.
    let refused = refusal(&dir.path().join("state"), &["--log", "kafka://127.0.0.1:1"]);
    assert!(refused.contains("kafka://127.0.0.1:1") && refused.contains("refused"), "{refused}");
    let refused = refusal(&dir.path().join("state"), &["--store", "redis://127.0.0.1:1"]);
    assert!(refused.contains("127.0.0.1:1") && refused.to_lowercase().contains("refused"), "{refused}");
}

/// The line with which a start ends that cannot be.
fn refusal(state: &Path, arguments: &[&str]) -> String {
    Platform::spawn(state, arguments).err().expect("is refused")
}
