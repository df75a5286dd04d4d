//! The platform on a real Kafka and a real Redis: an emptied store is filled again, and a folder knows its engines.
//! `ATTUNE_TEST_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/feed.rs"]
mod feed;
#[path = "support/platform.rs"]
mod platform;

use attune_identity::SubjectKey;
use attune_storage::{Topic, checkpoint_path};
use engines::{CATCH_UP, Engines, caught_up};
use feed::{CLIENTS, Client, check};
use platform::*;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// Events a second of all clients together.
const RATE: f64 = 500.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_is_filled_from_the_checkpoints_of_all_partitions() {
    const EMPTIED: u32 = 3;
    let name = "an_emptied_redis_is_filled_from_the_checkpoints_of_all_partitions";
    let Some(mut engines) = Engines::start(name) else { return };
    let _alone = feed::alone().await;
    let mut rng = Rng::of_run();
    let (dir, arguments) = engines.filled();
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
    let embedder = Site::new(platform.ready["admin"]["embedder"].as_str().unwrap());
    for n in 1..=EMPTIED {
        tokio::time::sleep(Duration::from_millis(1_000 + rng.next(1_500))).await;
        tokio::task::block_in_place(|| {
            engines.redis.kill().unwrap();
            engines.redis.restart_empty().unwrap();
        });
        // One that is emptied while it is filled would have fewer restorations.
        let began = Instant::now();
        while restorations(&embedder.get("/metrics").await.text()) < f64::from(n) * count as f64 {
            assert!(began.elapsed() < CATCH_UP, "all partitions are filled again");
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
    // The counters are copied every half second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let metrics = embedder.get("/metrics").await.text();
    assert!(platform.interrupt().success());
    let value = |series: &str| value(&metrics, series);
    println!(
        "{} restorations, {} records from checkpoints, {} bytes of them",
        restorations(&metrics),
        value("embedder_restored_records_total"),
        value("embedder_checkpoint_bytes")
    );
    assert_eq!(value(r#"embedder_restores_total{from="log"}"#), 0.0, "nothing was replayed from its start");
    assert!(value("streaming_checkpoint_duration_seconds_count") >= count as f64);
    let acknowledged: Vec<_> = clients.iter().flat_map(|client| client.acknowledged.iter().cloned()).collect();
    let key = SubjectKey::load(&dir.path().join("state/keys/subject.key")).unwrap();
    check(&*log, &store, &key, &acknowledged, true).await;
}

fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find(|line| line.starts_with(series));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{series}: {metrics}"))
}

/// Of partitions, from checkpoints.
fn restorations(metrics: &str) -> f64 {
    value(metrics, r#"embedder_restores_total{from="checkpoint"}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_remembers_its_engines() {
    let Some(mut engines) = Engines::start("a_folder_remembers_its_engines") else { return };
    let (dir, arguments) = engines.filled();
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
    what_waits_is_told(&platform, &mut engines).await;
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

/// While Redis is away events are taken, and the metrics say that they wait.
async fn what_waits_is_told(platform: &Platform, engines: &mut Engines) {
    tokio::task::block_in_place(|| engines.redis.kill().unwrap());
    for n in 0..3 {
        let taken = event(&format!("waits-{n}"), "click", "u1", "i8");
        let fed = platform.edge.post("/v1/feedback", &json!({"events": [taken]})).await;
        assert_eq!(fed.status, 202, "{}", fed.text());
    }
    let told = async |suits: &dyn Fn(f64, f64) -> bool| {
        let began = Instant::now();
        loop {
            let metrics = platform.admin.get("/metrics").await.text();
            let (records, seconds) = (
                value(&metrics, "embedder_lag_records"),
                value(&metrics, r#"streaming_lag_seconds{consumer_group="user-events""#),
            );
            if suits(records, seconds) {
                return;
            }
            assert!(began.elapsed() < CATCH_UP, "{records} records wait, since {seconds} s");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    told(&|records, seconds| records >= 3.0 && seconds > 1.0).await;
    tokio::task::block_in_place(|| engines.redis.restart().unwrap());
    told(&|records, seconds| records == 0.0 && seconds == 0.0).await;
}

/// The line with which a start ends that cannot be.
fn refusal(state: &Path, arguments: &[&str]) -> String {
    Platform::spawn(state, arguments).err().expect("is refused")
}
