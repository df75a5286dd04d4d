//! A feature store that loses what it holds, and what it is filled from.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/recompute.rs"]
mod recompute;
#[path = "support/bed.rs"]
mod support;
#[path = "support/watched.rs"]
mod watched;

use attune_config::HumanDuration;
use attune_domain::{EventKind, Uid, UserState};
use attune_embedder::{Embedder, EmbedderConfig, EmbedderStats};
use attune_engines::{Engine, Redis, RedisOptions as Server, available};
use attune_storage::{
    CheckpointError, CheckpointFile, CheckpointPart, EffectBatch, EmbeddedEventLog, EventLog, FeatureStore,
    MemoryFeatureStore, Positions, RedisFeatureStore, RedisOptions, StorageError, Topic, USER_EVENTS_CONSUMER,
    USER_UPDATES_CONSUMER, check_checkpoints, checkpoint_path,
};
use attune_telemetry::{Guard, LogTarget, ServiceInfo, Telemetry, TelemetryConfig};
use recompute::check;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};
use support::*;
use tokio::sync::watch;
use watched::WatchedLog;

const PART: CheckpointPart = CheckpointPart { partition: 0, partitions: 1 };
const PATIENCE: Duration = Duration::from_secs(60);
const USERS: u64 = 3_000;
const ITEMS: u64 = 200;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn of_run() -> Self {
        let seed = match std::env::var_os("ATTUNE_TEST_SEED") {
            Some(seed) => seed.to_str().unwrap().parse().unwrap(),
            None => u64::from(std::process::id()),
        };
        println!("ATTUNE_TEST_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }

    fn events(&mut self, count: u64) -> Vec<Event> {
        let event = |_| {
            let kind = EventKind::ALL[self.next(6) as usize];
            let (user, request, item) = (self.next(USERS) as u32, self.next(4_000) as u32, self.next(ITEMS) as u32);
            Event { occurred_at: NOW - self.next(1 << 30) as i64, ..decided(user, request, item, kind) }
        };
        (0..count).map(event).collect()
    }
}

fn config(folder: &Path, every: Duration) -> EmbedderConfig {
    let mut config = EmbedderConfig { checkpoint_every: HumanDuration(every), ..Default::default() };
    config.own.checkpoints = folder.to_owned();
    config
}

/// Never due again once there is one.
const ONCE: Duration = Duration::from_secs(3_600);

fn memory() -> Arc<dyn FeatureStore> {
    Arc::new(MemoryFeatureStore::new(EmbedderConfig::default().feature_options(clock())))
}

async fn redis(server: &Redis) -> Arc<dyn FeatureStore> {
    let patience = Duration::from_secs(10);
    let options = RedisOptions { timeout: patience, write_timeout: patience, ..RedisOptions::new(server.url(), 1) };
    let features = EmbedderConfig::default().feature_options(clock());
    Arc::new(RedisFeatureStore::connect(options, features).await.unwrap())
}

fn on_file(folder: &Path) -> Option<CheckpointFile> {
    CheckpointFile::open(folder, PART).unwrap()
}

fn position(folder: &Path) -> u64 {
    on_file(folder).map_or(0, |file| file.totals().positions.events)
}

/// Runs a consumer until there is a checkpoint of all the log holds.
async fn checkpointed(bed: Bed) -> Bed {
    let folder = bed.config.own.checkpoints.clone();
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(bed.embedder().run(stopping));
    let end = bed.log.bounds(Topic::UserEvents).await.unwrap().end;
    let began = Instant::now();
    while position(&folder) < end {
        assert!(began.elapsed() < PATIENCE, "no checkpoint of {end}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    bed
}

async fn applied_all(log: &dyn EventLog, store: &dyn FeatureStore) {
    for (topic, consumer) in [(Topic::UserEvents, USER_EVENTS_CONSUMER), (Topic::UserUpdates, USER_UPDATES_CONSUMER)] {
        let end = log.bounds(topic).await.unwrap().end;
        assert_eq!(store.wait_applied(consumer, end, PATIENCE).await.unwrap(), end, "{consumer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_under_load_is_filled_from_the_checkpoint_and_the_tail() {
    const ROUNDS: u64 = 6;
    if !available(Engine::Redis, "an_emptied_redis_under_load_is_filled_from_the_checkpoint_and_the_tail") {
        return;
    }
    let mut rng = Rng::of_run();
    let mut server = Redis::start(&Server { append_only: true, ..Server::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_owned();
    let log = Arc::new(WatchedLog::default());
    let store = redis(&server).await;
    let bed = Bed::on(log.clone(), store.clone());
    let bed = Arc::new(Bed { config: config(&folder, Duration::from_millis(300)), ..bed });
    for _ in 0..40 {
        bed.write(rng.events(500)).await;
    }
    let embedder = bed.embedder();
    let stats = embedder.stats();
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(embedder.run(stopping));
    let (enough, mut ending) = watch::channel(false);
    let feeding = tokio::spawn({
        let (bed, mut rng) = (Arc::clone(&bed), Rng(rng.next(u64::MAX)));
        async move {
            while !*ending.borrow_and_update() {
                bed.write(rng.events(40)).await;
                match rng.next(12) {
                    // Of others than are erased: the two topics are not ordered between each other.
                    0 => bed.write_attributes(rng.next(USERS / 2) as u32, &[("age", &rng.next(90).to_string())]).await,
                    1 => erase(&bed, (USERS / 2 + rng.next(USERS / 2)) as u32).await,
                    _ => {}
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    for round in 0..ROUNDS {
        let before = position(&folder);
        let began = Instant::now();
        while position(&folder) <= before.max(10_000) {
            assert!(began.elapsed() < PATIENCE, "no checkpoint in round {round}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // At any moment of the next checkpoint.
        tokio::time::sleep(Duration::from_millis(rng.next(400))).await;
        let checkpoint = position(&folder);
        log.begin();
        match round % 2 {
            0 => drop(server.ask(&["FLUSHALL"]).unwrap()),
            _ => tokio::task::block_in_place(|| server.restart_empty()).unwrap(),
        }
        let end = log.bounds(Topic::UserEvents).await.unwrap().end;
        let applied = recovered(&*store, end).await;
        assert!(applied >= end, "round {round}: {applied} of {end}");
        let (lowest, read) = (log.lowest.load(SeqCst), log.read.load(SeqCst));
        println!("round {round}: log {end}, checkpoint {checkpoint}, read from {lowest} on {read} records");
        // The last batch before the checkpoint is read to be announced again.
        assert!(
            lowest + bed.config.batch_records as u64 >= checkpoint,
            "read from {lowest}, checkpoint at {checkpoint}"
        );
        assert!(read < end / 2, "{read} of {end} were read again");
    }
    enough.send_replace(true);
    feeding.await.unwrap();
    applied_all(&*bed.log, &*store).await;
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    assert!(stats.restored.load(Relaxed) >= ROUNDS, "{stats:?}");
    assert_eq!(stats.replayed.load(Relaxed), 1, "the first time, when there was none: {stats:?}");
    let (users, items) = check(&*bed.log, &*store).await;
    println!("{users} visitors and {items} items are as the log says");
    assert!(users > USERS as usize / 2 && items == ITEMS as usize);
}

async fn erase(bed: &Bed, user: u32) {
    bed.write_attributes(user, &[]).await;
    bed.erase(user).await;
}

/// While the server starts again it does not answer.
async fn recovered(store: &dyn FeatureStore, end: u64) -> u64 {
    let began = Instant::now();
    loop {
        match store.wait_applied(USER_EVENTS_CONSUMER, end, PATIENCE).await {
            Ok(applied) => return applied,
            Err(e) => assert!(began.elapsed() < PATIENCE, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The process that is killed. Does nothing in an ordinary run of the tests.
#[test]
fn restoring_process() {
    let (Some(dir), Some(url)) = (std::env::var_os("ATTUNE_TEST_DIR"), std::env::var_os("ATTUNE_TEST_REDIS")) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = Path::new(&dir);
        let log = EmbeddedEventLog::open(&dir.join("log")).unwrap();
        let features = EmbedderConfig::default().feature_options(clock());
        let options = RedisOptions::new(url.to_str().unwrap(), 1);
        let store = RedisFeatureStore::connect(options, features).await.unwrap();
        let bed = Bed::on(Arc::new(log), Arc::new(store));
        let bed = Bed { config: config(&dir.join("checkpoints"), ONCE), ..bed };
        println!("\nrunning");
        let (_stop, stopping) = watch::channel(false);
        // Bounded, so that a parent that is gone leaves no process behind.
        drop(tokio::time::timeout(PATIENCE, bed.embedder().run(stopping)).await);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restoration_that_is_killed_is_begun_anew() {
    const ROUNDS: u64 = 8;
    if !available(Engine::Redis, "a_restoration_that_is_killed_is_begun_anew") {
        return;
    }
    let mut rng = Rng::of_run();
    let server = Redis::start(&Server::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = redis(&server).await;
    let open = || Bed {
        config: config(&dir.path().join("checkpoints"), ONCE),
        ..Bed::on(Arc::new(EmbeddedEventLog::open(&dir.path().join("log")).unwrap()), store.clone())
    };
    let bed = open();
    for _ in 0..60 {
        bed.write(rng.events(500)).await;
    }
    let bed = checkpointed(bed).await;
    bed.write(rng.events(700)).await;
    drop(bed);
    server.ask(&["FLUSHALL"]).unwrap();
    let mut midway = 0;
    for _ in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "restoring_process", "--nocapture"])
            .env("ATTUNE_TEST_DIR", dir.path())
            .env("ATTUNE_TEST_REDIS", server.url())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "running"));
        let began = Instant::now();
        let checkpoints = store.checkpoints(1).unwrap();
        while !checkpoints.is_restoring(0).await.unwrap() && began.elapsed() < Duration::from_secs(5) {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(rng.next(60_000))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        if checkpoints.is_restoring(0).await.unwrap() {
            midway += 1;
        } else {
            server.ask(&["FLUSHALL"]).unwrap();
        }
    }
    println!("{midway} of {ROUNDS} kills were in the middle of a restoration");
    assert!(midway > 0);
    let bed = open().caught_up().await;
    assert_eq!(bed.stats.restored.load(Relaxed), 1);
    check(&*bed.log, &*bed.store).await;
}

/// A log of some thousand events, and a checkpoint of it.
async fn with_checkpoint(dir: &Path) -> (Arc<WatchedLog>, Bed) {
    let log = Arc::new(WatchedLog::default());
    let bed = Bed { config: config(dir, ONCE), ..Bed::on(log.clone(), memory()) };
    let mut rng = Rng::of_run();
    for _ in 0..10 {
        bed.write(rng.events(500)).await;
        bed.write_attributes(rng.next(USERS) as u32, &[("age", "33")]).await;
    }
    (log, checkpointed(bed).await)
}

#[tokio::test]
async fn what_stands_on_a_checkpoint_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, bed) = with_checkpoint(dir.path()).await;
    let end = position(dir.path());
    bed.write(Rng(1).events(30)).await;
    log.begin();
    let bed = Bed { store: memory(), ..bed }.caught_up().await;
    assert_eq!(bed.stats.restored.load(Relaxed), 1);
    assert_eq!(bed.stats.records_restored.load(Relaxed), end);
    let read = log.read.load(SeqCst);
    assert_eq!(
        read,
        30 + bed.config.batch_records as u64 + 1,
        "the tail, a batch to announce, and what the bed looks at"
    );
    check(&*bed.log, &*bed.store).await;
}

#[tokio::test]
async fn a_damaged_checkpoint_is_ignored_and_the_log_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, bed) = with_checkpoint(dir.path()).await;
    let path = checkpoint_path(dir.path(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    let (telemetry, lines, guard) = logging(dir.path());
    log.begin();
    let store = memory();
    let embedder = Embedder::new(bed.log.clone(), store.clone(), bed.config.clone(), clock()).telling(telemetry);
    let stats = applied_by(embedder, &*bed.log, &*store).await;
    assert_eq!((stats.restored.load(Relaxed), stats.replayed.load(Relaxed)), (0, 1));
    assert_eq!(log.lowest.load(SeqCst), 0);
    check(&*bed.log, &*store).await;
    drop(guard);
    let lines = std::fs::read_to_string(lines).unwrap();
    assert!(lines.contains(r#""event":"checkpoint_ignored""#) && lines.contains("data_loss"), "{lines}");
}

fn logging(dir: &Path) -> (Telemetry, PathBuf, Guard) {
    let lines = dir.join("log.jsonl");
    let config = TelemetryConfig { logs: LogTarget::File(lines.clone()), ..TelemetryConfig::default() };
    let info = ServiceInfo { service: "embedder", version: "0", instance: "test".into() };
    let (telemetry, guard) = Telemetry::start(&config, info, clock()).unwrap();
    (telemetry, lines, guard)
}

async fn applied_by(embedder: Embedder, log: &dyn EventLog, store: &dyn FeatureStore) -> Arc<EmbedderStats> {
    let stats = embedder.stats();
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(embedder.run(stopping));
    applied_all(log, store).await;
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    stats
}

#[tokio::test]
async fn a_checkpoint_of_a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (_, bed) = with_checkpoint(dir.path()).await;
    let path = checkpoint_path(dir.path(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 9;
    std::fs::write(&path, &bytes).unwrap();
    let refused = check_checkpoints(dir.path()).unwrap_err();
    assert!(matches!(refused, CheckpointError::Format { found: 9, supported: 2, .. }));
    assert!(refused.to_string().ends_with("features-0.checkpoint has format 9, this build reads 2"), "{refused}");
    // One that appears under a running consumer ends it.
    let (_stop, stopping) = watch::channel(false);
    let ended = Bed { store: memory(), ..bed }.embedder().run(stopping).await;
    assert_eq!(ended, Err(StorageError::FormatVersion { found: 9, supported: 2 }));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn an_erasure_after_the_checkpoint_is_done_again_and_the_next_one_has_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, bed) = with_checkpoint(dir.path()).await;
    let erased = recorded_user(&bed).await;
    let number = u32::from_be_bytes(erased.0[1..5].try_into().unwrap());
    assert!(contents(dir.path())[&erased].is_some(), "the checkpoint still knows the visitor");
    erase(&bed, number).await;
    let fence = bed.log.bounds(Topic::UserEvents).await.unwrap().end;
    let bed = Bed { store: memory(), ..bed }.caught_up().await;
    assert_eq!(bed.stats.restored.load(Relaxed), 1);
    assert_eq!(bed.store.load_users(&[erased]).await.unwrap(), [UserState::default()]);
    assert_eq!(bed.store.fences(&[erased]).await.unwrap(), [Some(fence)]);
    let (users, _) = check(&*bed.log, &*bed.store).await;
    let bed = checkpointed(Bed { config: config(dir.path(), Duration::from_millis(100)), ..bed }).await;
    let contents = contents(dir.path());
    assert_eq!(contents.get(&erased), None);
    assert_eq!(contents.len(), users);
    // The fence is on it, also for a store that never sees the erasure.
    let bed = Bed { store: memory(), ..bed }.caught_up().await;
    assert_eq!(bed.store.fences(&[erased]).await.unwrap(), [Some(fence)]);
}

/// Somebody with a state.
async fn recorded_user(bed: &Bed) -> Uid {
    for n in 0..USERS as u32 {
        if !bed.state(n).await.window.events().is_empty() {
            return uid(n);
        }
    }
    panic!("nobody has a state");
}

/// Each word about a visitor that is on the checkpoint, the last one standing.
fn contents(folder: &Path) -> HashMap<Uid, Option<UserState>> {
    let mut file = on_file(folder).unwrap();
    let mut users = HashMap::new();
    while let Some(part) = file.next_part().unwrap() {
        users.extend(part.users);
    }
    users
}

/// A store that stands at this offset, and nothing in it.
async fn behind(next_offset: u64) -> Arc<dyn FeatureStore> {
    let store = memory();
    let batch = EffectBatch { consumer: USER_EVENTS_CONSUMER, next_offset, ..Default::default() };
    store.apply(batch).await.unwrap();
    store
}

#[tokio::test]
async fn a_store_behind_the_logs_start_is_filled_and_a_checkpoint_behind_it_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (log, bed) = with_checkpoint(dir.path()).await;
    let end = position(dir.path());
    let whole = bed.store.clone();
    log.start.store(end - 1_000, SeqCst);
    let bed = Bed { store: behind(20).await, ..bed }.caught_up().await;
    assert_eq!(bed.stats.restored.load(Relaxed), 1);
    let uids: Vec<_> = (0..USERS as u32).map(uid).collect();
    assert_eq!(bed.store.load_users(&uids).await.unwrap(), whole.load_users(&uids).await.unwrap());
    assert_eq!(bed.store.posteriors().await.unwrap(), whole.posteriors().await.unwrap());
    // What was erased between the checkpoint and the log's start would come back.
    bed.write(Rng(3).events(200)).await;
    log.start.store(end + 100, SeqCst);
    let bed = Bed { store: behind(20).await, ..bed }.caught_up().await;
    assert_eq!((bed.stats.restored.load(Relaxed), bed.stats.replayed.load(Relaxed)), (0, 1));
    let states = bed.store.load_users(&uids).await.unwrap();
    let events: usize = states.iter().map(|state| state.window.events().len()).sum();
    assert!((1..=100).contains(&events), "{events}");
}

#[tokio::test]
async fn a_store_that_is_merely_behind_reads_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (log, bed) = with_checkpoint(dir.path()).await;
    let half = Bed { config: EmbedderConfig::default(), store: memory(), ..bed };
    let applied = half.caught_up().await;
    applied.write(Rng(4).events(50)).await;
    log.begin();
    let applied = Bed { config: config(dir.path(), ONCE), ..applied }.caught_up().await;
    assert_eq!((applied.stats.restored.load(Relaxed), applied.stats.replayed.load(Relaxed)), (0, 0));
    check(&*applied.log, &*applied.store).await;
}

#[tokio::test]
async fn who_keeps_no_checkpoints_ends_a_broken_off_restoration_too() {
    let dir = tempfile::tempdir().unwrap();
    let (_, bed) = with_checkpoint(dir.path()).await;
    let store = memory();
    let checkpoints = store.checkpoints(1).unwrap();
    let broken_off = checkpoints.begin_restore(0, Positions::first(0), 7).await.unwrap();
    let part = on_file(dir.path()).unwrap().next_part().unwrap().unwrap();
    checkpoints.restore(&broken_off, part).await.unwrap();
    let bed = Bed { store: store.clone(), config: EmbedderConfig::default(), ..bed }.caught_up().await;
    assert_eq!((bed.stats.restored.load(Relaxed), bed.stats.replayed.load(Relaxed)), (0, 1));
    check(&*bed.log, &*bed.store).await;
}

#[tokio::test]
async fn a_checkpoint_of_another_log_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    with_checkpoint(dir.path()).await;
    let other = Bed { config: config(dir.path(), ONCE), ..Bed::memory() };
    other.write(Rng(5).events(100)).await;
    let other = other.caught_up().await;
    assert_eq!((other.stats.restored.load(Relaxed), other.stats.replayed.load(Relaxed)), (0, 1));
    check(&*other.log, &*other.store).await;
}

#[tokio::test]
async fn checkpoints_of_partitions_that_others_consume_do_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (log, bed) = with_checkpoint(dir.path()).await;
    let bed = Bed { config: config(dir.path(), Duration::from_millis(100)), ..bed };
    let left = checkpoint_path(dir.path(), 1);
    std::fs::write(&left, "of a member that went on elsewhere").unwrap();
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(bed.embedder().run(stopping));
    applied_all(&*bed.log, &*bed.store).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(left.exists(), "no such partition, nobody's business");
    log.others.store(1, SeqCst);
    let began = Instant::now();
    while left.exists() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    assert!(checkpoint_path(dir.path(), 0).exists());
}
