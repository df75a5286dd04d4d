//! What the Redis feature store does when its server dies, freezes, forgets, refuses, or is many.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_domain::{EventKey, EventKind, ItemIx, RequestId, StateVersion, Uid, UserState, WindowEvent};
use attune_engines::{Engine, Redis, RedisCluster, RedisOptions as Server, available};
use attune_storage::{
    EffectBatch, ExportCursor, FeatureOptions, FeatureStore, OutcomeKey, PosteriorChange, REDIS_COMMANDS, RedisFamily,
    RedisFeatureStore, RedisObserver, RedisOptions, StorageError, StorePart, USER_EVENTS_CONSUMER, first_offset,
    partition_for,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const START: i64 = 20_000 * 86_400_000;
const PATIENCE: Duration = Duration::from_secs(10);

fn features() -> FeatureOptions {
    FeatureOptions { half_life: Duration::from_secs(86_400), clock: Arc::new(|| START) }
}

fn options(url: String, partitions: u16) -> RedisOptions {
    RedisOptions {
        timeout: PATIENCE,
        write_timeout: PATIENCE,
        connect_timeout: PATIENCE,
        ..RedisOptions::new(url, partitions)
    }
}

async fn open(url: String, partitions: u16) -> RedisFeatureStore {
    RedisFeatureStore::connect(options(url, partitions), features()).await.unwrap()
}

/// A store on the tests' common server.
async fn shared(prefix: &str, partitions: u16) -> RedisFeatureStore {
    RedisFeatureStore::connect(on_shared(prefix, partitions), features()).await.unwrap()
}

fn on_shared(prefix: &str, partitions: u16) -> RedisOptions {
    RedisOptions { prefix: prefix.to_owned(), ..options(Redis::shared().unwrap().url(), partitions) }
}

fn uid(n: u32) -> Uid {
    let mut bytes = [1; 17];
    bytes[1..5].copy_from_slice(&n.to_be_bytes());
    Uid(bytes)
}

/// The first so many visitors of a partition.
fn visitors(partition: u16, partitions: u16, count: usize) -> Vec<Uid> {
    (0..).map(uid).filter(|uid| partition_for(&uid.0, partitions) == partition).take(count).collect()
}

fn state(n: u32) -> UserState {
    let mut state = UserState { version: StateVersion { epoch: 0, next_offset: n.into() }, ..UserState::default() };
    for i in 0..n % 60 {
        state.window.insert(WindowEvent {
            occurred_at: START + i64::from(i) * 60_000,
            key: EventKey(u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            item: ItemIx(i * 31 % 97),
            kind: EventKind::Click,
            value: 1.0,
        });
    }
    state
}

fn batch(expected_offset: u64, next_offset: u64) -> EffectBatch {
    EffectBatch { consumer: USER_EVENTS_CONSUMER, expected_offset, next_offset, ..Default::default() }
}

fn seen(item: u32) -> PosteriorChange {
    PosteriorChange { item: ItemIx(item), at: START, impressions: 1.0, rewards: 0.0 }
}

async fn impressions(store: &RedisFeatureStore) -> Vec<(u32, f32)> {
    store.posteriors().await.unwrap().counts.iter().map(|c| (c.item.0, c.impressions)).collect()
}

/// Until the store answers again; it may take some tries.
async fn recovered<T, F: Future<Output = Result<T, StorageError>>>(ask: impl Fn() -> F) -> T {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(e) => assert!(start.elapsed() < Duration::from_secs(30), "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Something of everything, from a partition's first offset to its ninth.
fn first_batch(partition: u16, partitions: u16) -> EffectBatch {
    let first = first_offset(partition);
    let outcome = OutcomeKey { day: 7, request: RequestId([partition as u8; 16]), item: ItemIx(3) };
    EffectBatch {
        users: visitors(partition, partitions, 20).into_iter().zip((1..).map(state)).collect(),
        posteriors: vec![seen(1), seen(u32::from(partition) + 2)],
        outcomes: vec![(outcome, 1)],
        erased: vec![(visitors(partition, partitions, 21)[20], first + 4)],
        ..batch(first, first + 9)
    }
}

async fn fill(store: &RedisFeatureStore, partitions: u16) {
    for partition in 0..partitions {
        let end = first_offset(partition) + 9;
        store.apply(first_batch(partition, partitions)).await.unwrap();
        assert_eq!(store.wait_applied(USER_EVENTS_CONSUMER, end, PATIENCE).await.unwrap(), end);
    }
}

/// Finds all of the first batches.
async fn check(store: &RedisFeatureStore, partitions: u16) {
    let mut everyone = Vec::new();
    for partition in 0..partitions {
        let EffectBatch { users, outcomes, erased, .. } = first_batch(partition, partitions);
        everyone.extend(users);
        assert_eq!(store.load_outcomes(partition, &[outcomes[0].0]).await.unwrap(), [1]);
        assert_eq!(store.fences(&[erased[0].0]).await.unwrap(), [Some(erased[0].1)]);
    }
    // Neighbours in the question are of different partitions.
    everyone.sort_by_key(|(uid, _)| *uid);
    let (uids, states): (Vec<_>, Vec<_>) = everyone.into_iter().unzip();
    assert_eq!(store.load_users(&uids).await.unwrap(), states);
    assert_eq!(store.user_count().await.unwrap(), uids.len() as u64);
    let counts = impressions(store).await;
    assert_eq!(counts[0], (1, f32::from(partitions)));
    assert_eq!(counts.len(), usize::from(partitions) + 1);
}

#[tokio::test]
async fn eight_partitions_on_one_server() {
    if !available(Engine::Redis, "eight_partitions_on_one_server") {
        return;
    }
    let store = shared("eight:", 8).await;
    fill(&store, 8).await;
    check(&store, 8).await;
    let stranger = visitors(3, 8, 1)[0];
    let refused = store.apply(EffectBatch { users: vec![(stranger, state(1))], ..batch(9, 10) }).await.unwrap_err();
    assert!(matches!(&refused, StorageError::Invalid { field, .. } if field == "users"), "{refused:?}");
    let beyond = store.apply(batch(first_offset(8), first_offset(8) + 1)).await.unwrap_err();
    assert!(matches!(&beyond, StorageError::Invalid { field, .. } if field == "partitions"), "{beyond:?}");
}

#[tokio::test]
async fn eight_partitions_on_a_cluster_of_three() {
    if !available(Engine::Redis, "eight_partitions_on_a_cluster_of_three") {
        return;
    }
    let mut cluster = RedisCluster::start(3).unwrap();
    let address = |n: usize, cluster: &RedisCluster| cluster.nodes()[n].address();
    let url = format!("redis-cluster://{}?node={}", address(0, &cluster), address(1, &cluster));
    let store = open(url, 8).await;
    fill(&store, 8).await;
    check(&store, 8).await;
    let memory = store.memory().await.unwrap();
    assert!(memory.used_bytes > 0);
    for (family, used) in &memory.families {
        assert!(used.keys > 0 && used.bytes > 0, "{family:?}: {used:?}");
    }
    for node in cluster.nodes_mut() {
        node.kill().unwrap();
        node.restart().unwrap();
    }
    cluster.wait_until_well().unwrap();
    for partition in 0..8 {
        // A kill takes a batch that was not on disk yet, and all of it: then it fits again.
        let (effects, first) = (first_batch(partition, 8), first_offset(partition));
        if recovered(|| store.progress(USER_EVENTS_CONSUMER, partition)).await == first {
            let tries = AtomicU32::new(0);
            recovered(|| async {
                let is_first = tries.fetch_add(1, Ordering::Relaxed) == 0;
                match store.apply(effects.clone()).await {
                    // A try that seemed to fail has landed.
                    Err(StorageError::Conflict { found, .. }) if found == first + 9 && !is_first => Ok(()),
                    Err(e @ StorageError::Conflict { .. }) => panic!("partition {partition}: {e}"),
                    answer => answer,
                }
            })
            .await;
        }
        assert_eq!(recovered(|| store.progress(USER_EVENTS_CONSUMER, partition)).await, first + 9);
    }
    recovered(|| store.user_count()).await;
    check(&store, 8).await;
}

#[tokio::test]
async fn other_processes_hear_of_what_was_applied() {
    if !available(Engine::Redis, "other_processes_hear_of_what_was_applied") {
        return;
    }
    let (writer, reader) = (shared("hear:", 2).await, Arc::new(shared("hear:", 2).await));
    let first = first_offset(1);
    let waiting = tokio::spawn({
        let reader = reader.clone();
        async move { reader.wait_applied(USER_EVENTS_CONSUMER, first + 2, PATIENCE).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    writer.apply(batch(first, first + 1)).await.unwrap();
    writer.apply(batch(first + 1, first + 5)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), first + 5);
}

#[tokio::test]
async fn two_writers_of_a_partition_add_up_exactly() {
    if !available(Engine::Redis, "two_writers_of_a_partition_add_up_exactly") {
        return;
    }
    let writers = [shared("two:", 1).await, shared("two:", 1).await];
    // Each takes over from the other with sums of its own that are old.
    for offset in 0..20u64 {
        let writer = &writers[(offset / 3) as usize % 2];
        let effects = EffectBatch { posteriors: vec![seen(1), seen(offset as u32 + 2)], ..batch(offset, offset + 1) };
        writer.apply(effects.clone()).await.unwrap();
        let again = writers[1].apply(effects).await.unwrap_err();
        assert_eq!(again, StorageError::Conflict { expected: offset, found: offset + 1 });
    }
    for writer in &writers {
        let counts = impressions(writer).await;
        assert_eq!((counts[0], counts.len()), ((1, 20.0), 21));
    }
}

#[tokio::test]
async fn another_half_life_keeps_the_worth_of_now() {
    if !available(Engine::Redis, "another_half_life_keeps_the_worth_of_now") {
        return;
    }
    let before = shared("half:", 1).await;
    before.apply(EffectBatch { posteriors: vec![seen(1), seen(2)], ..batch(0, 1) }).await.unwrap();
    let slow = FeatureOptions { half_life: Duration::from_secs(9 * 86_400), clock: Arc::new(|| START + 86_400_000) };
    let after = RedisFeatureStore::connect(on_shared("half:", 1), slow).await.unwrap();
    let near = |counts: Vec<(u32, f32)>, expected: [f32; 2]| {
        assert!(counts.iter().zip(expected).all(|((_, n), e)| (n - e).abs() < 1e-5), "{counts:?}");
    };
    near(impressions(&after).await, [0.5, 0.5]);
    let change = PosteriorChange { at: START + 86_400_000, ..seen(2) };
    after.apply(EffectBatch { posteriors: vec![change], ..batch(1, 2) }).await.unwrap();
    near(impressions(&after).await, [0.5, 1.5]);
}

#[tokio::test]
async fn outcomes_of_a_request_come_one_by_one() {
    if !available(Engine::Redis, "outcomes_of_a_request_come_one_by_one") {
        return;
    }
    let store = shared("outcomes:", 1).await;
    let key = |item| OutcomeKey { day: 5, request: RequestId([9; 16]), item: ItemIx(item) };
    store.apply(EffectBatch { outcomes: vec![(key(1), 1), (key(2), 1)], ..batch(0, 1) }).await.unwrap();
    store.apply(EffectBatch { outcomes: vec![(key(2), 3), (key(1 << 31), 1)], ..batch(1, 2) }).await.unwrap();
    let keys = [key(1 << 31), key(2), key(3), key(1)];
    assert_eq!(store.load_outcomes(0, &keys).await.unwrap(), [1, 3, 0, 1]);
}

#[tokio::test]
async fn everything_of_visitors_ends_by_itself() {
    if !available(Engine::Redis, "everything_of_visitors_ends_by_itself") {
        return;
    }
    let second = Duration::from_secs(1);
    let brief = RedisOptions { user_ttl: second, fence_ttl: second, outcome_ttl: second, ..on_shared("ends:", 1) };
    let store = RedisFeatureStore::connect(brief, features()).await.unwrap();
    let outcome = OutcomeKey { day: 5, request: RequestId([9; 16]), item: ItemIx(1) };
    let effects = EffectBatch {
        users: vec![(uid(1), state(1))],
        erased: vec![(uid(2), 1)],
        outcomes: vec![(outcome, 1)],
        ..batch(0, 1)
    };
    store.apply(effects).await.unwrap();
    let start = Instant::now();
    while store.load_users(&[uid(1)]).await.unwrap()[0] != UserState::default()
        || store.fences(&[uid(2)]).await.unwrap() != [None]
        || store.load_outcomes(0, &[outcome]).await.unwrap() != [0]
    {
        assert!(start.elapsed() < Duration::from_secs(30), "something stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap(), 1, "this does not");
}

#[tokio::test]
async fn a_kill_takes_progress_and_effects_together() {
    if !available(Engine::Redis, "a_kill_takes_progress_and_effects_together") {
        return;
    }
    let mut redis = Redis::start(&Server { append_only: true, ..Server::default() }).unwrap();
    let store = open(redis.url(), 1).await;
    let effects = |n: u64| EffectBatch {
        users: vec![(uid(n as u32), state(n as u32))],
        posteriors: vec![seen(1)],
        ..batch(n, n + 1)
    };
    for n in 0..100 {
        store.apply(effects(n)).await.unwrap();
    }
    redis.kill().unwrap();
    assert!(store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap_err().is_retryable());
    redis.restart().unwrap();
    let at = recovered(|| store.progress(USER_EVENTS_CONSUMER, 0)).await;
    // Each of the store's connections comes back by itself.
    assert_eq!(recovered(|| store.user_count()).await, at);
    let counts = impressions(&store).await;
    assert_eq!(counts.first().map_or(0.0, |(_, n)| *n), at as f32);
    for n in at..110 {
        recovered(|| store.apply(effects(n))).await;
    }
    assert_eq!(impressions(&store).await, [(1, 110.0)]);
}

#[tokio::test]
async fn what_comes_back_empty_is_filled_again() {
    if !available(Engine::Redis, "what_comes_back_empty_is_filled_again") {
        return;
    }
    let mut redis = Redis::start(&Server::default()).unwrap();
    let store = open(redis.url(), 1).await;
    let effects = |n: u64| EffectBatch { posteriors: vec![seen(1)], ..batch(n, n + 1) };
    for n in 0..5 {
        store.apply(effects(n)).await.unwrap();
    }
    assert_eq!(impressions(&store).await, [(1, 5.0)]);
    redis.restart_empty().unwrap();
    assert_eq!(recovered(|| store.progress(USER_EVENTS_CONSUMER, 0)).await, 0);
    let conflict = recovered(|| async {
        match store.apply(effects(5)).await {
            Err(StorageError::Conflict { expected, found }) => Ok((expected, found)),
            Err(e) => Err(e),
            Ok(()) => panic!("the batch fits nowhere"),
        }
    });
    assert_eq!(conflict.await, (5, 0));
    assert!(impressions(&store).await.is_empty());
    for n in 0..3 {
        store.apply(effects(n)).await.unwrap();
    }
    assert_eq!(impressions(&store).await, [(1, 3.0)], "nothing of the old sums");
    let partitions = RedisFeatureStore::connect(options(redis.url(), 2), features()).await.err().unwrap();
    assert!(matches!(&partitions, StorageError::Invalid { field, .. } if field == "partitions"), "{partitions:?}");
}

#[tokio::test]
async fn a_batch_lost_with_the_data_counts_once_when_it_comes_again() {
    if !available(Engine::Redis, "a_batch_lost_with_the_data_counts_once_when_it_comes_again") {
        return;
    }
    let mut redis = Redis::start(&Server::default()).unwrap();
    let store = open(redis.url(), 1).await;
    let effects = EffectBatch { posteriors: vec![seen(1)], ..batch(0, 1) };
    store.apply(effects.clone()).await.unwrap();
    redis.restart_empty().unwrap();
    // Fails until it is connected again, and then fits where the writer's own sums do not.
    recovered(|| async {
        assert_eq!(store.progress(USER_EVENTS_CONSUMER, 0).await?, 0);
        store.user_count().await
    })
    .await;
    store.apply(effects).await.unwrap();
    assert_eq!(impressions(&store).await, [(1, 1.0)]);
}

#[tokio::test]
async fn a_frozen_server_is_unavailable_and_a_lost_answer_a_conflict() {
    if !available(Engine::Redis, "a_frozen_server_is_unavailable_and_a_lost_answer_a_conflict") {
        return;
    }
    let mut redis = Redis::start(&Server::default()).unwrap();
    let (deadline, someone) = (Duration::from_millis(100), [uid(1)]);
    let quick = RedisOptions { timeout: deadline, write_timeout: deadline, ..options(redis.url(), 1) };
    let store = RedisFeatureStore::connect(quick, features()).await.unwrap();
    recovered(|| store.progress(USER_EVENTS_CONSUMER, 0)).await;
    let effects = EffectBatch { posteriors: vec![seen(1)], users: vec![(uid(1), state(3))], ..batch(4, 9) };
    recovered(|| async {
        match store.apply(batch(0, 4)).await {
            Err(StorageError::Conflict { found: 4, .. }) => Ok(()),
            answer => answer,
        }
    })
    .await;
    redis.pause().unwrap();
    for n in 0..12 {
        let asked = Instant::now();
        // The first is written to the connection, and lands when the server goes on.
        let refused = match n {
            0 => store.apply(effects.clone()).await.unwrap_err(),
            _ => store.load_users(&[uid(1)]).await.unwrap_err(),
        };
        assert_eq!(refused, StorageError::Unavailable);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?} for a deadline of {deadline:?}", asked.elapsed());
    }
    redis.resume().unwrap();
    recovered(|| store.load_users(&someone)).await;
    let second = recovered(|| async {
        match store.apply(effects.clone()).await {
            Err(e) if e.is_retryable() => Err(e),
            answer => Ok(answer),
        }
    })
    .await;
    match second {
        Ok(()) => {}
        Err(e) => assert_eq!(e, StorageError::Conflict { expected: 4, found: 9 }),
    }
    assert_eq!(recovered(|| store.load_users(&someone)).await, [state(3)]);
    assert_eq!(impressions(&store).await, [(1, 1.0)], "applied once");
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_applied_once() {
    if !available(Engine::Redis, "a_batch_whose_answer_was_lost_is_applied_once") {
        return;
    }
    let mut redis = Redis::start(&Server::default()).unwrap();
    let hasty = RedisOptions { write_timeout: Duration::from_millis(300), ..options(redis.url(), 1) };
    let store = RedisFeatureStore::connect(hasty, features()).await.unwrap();
    let effects = |from: u64| EffectBatch { posteriors: vec![seen(1)], ..batch(from, from + 1) };
    recovered(|| async { store.apply(effects(0)).await }).await;
    redis.pause().unwrap();
    assert_eq!(store.apply(effects(1)).await.unwrap_err(), StorageError::Unavailable);
    redis.resume().unwrap();
    // One timeout does not break the connection, so what was sent on it arrives.
    let at = recovered(|| async {
        match store.progress(USER_EVENTS_CONSUMER, 0).await? {
            1 => Err(StorageError::Unavailable),
            at => Ok(at),
        }
    });
    assert_eq!(at.await, 2);
    assert_eq!(store.apply(effects(1)).await.unwrap_err(), StorageError::Conflict { expected: 1, found: 2 });
    store.apply(effects(2)).await.unwrap();
    assert_eq!(impressions(&store).await, [(1, 3.0)]);
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    if !available(Engine::Redis, "what_cannot_be_opened_says_why") {
        return;
    }
    let locked = Redis::start(&Server { password: Some("secret".to_owned()), ..Server::default() }).unwrap();
    let address = locked.address();
    let gone = {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        taken.local_addr().unwrap().to_string()
    };
    for (url, address, reason) in [
        (format!("redis://{address}"), &address, "NOAUTH"),
        (format!("redis://:wrong@{address}"), &address, "WRONGPASS"),
        // It waits for the end of a line, which TLS does not send.
        (format!("rediss://:secret@{address}"), &address, "TLS"),
        (format!("redis://{gone}"), &gone, "refused"),
        (format!("redis-cluster://{gone}"), &gone, ""),
    ] {
        let began = Instant::now();
        let brief = RedisOptions { connect_timeout: Duration::from_secs(2), ..options(url.clone(), 1) };
        let error = RedisFeatureStore::connect(brief, features()).await.err().unwrap();
        assert!(began.elapsed() < 3 * PATIENCE, "{url}: {:?}", began.elapsed());
        let text = error.to_string();
        assert!(matches!(error, StorageError::Connect { .. }) && error.is_retryable(), "{url}: {error:?}");
        assert!(text.contains(address) && text.contains(reason) && text.lines().count() == 1, "{url}: {text}");
        assert!(!text.contains("secret") && !text.contains("wrong@"), "{text}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret\n").unwrap();
    let by_file = options(format!("redis://{address}"), 1);
    let by_file = RedisOptions { password_file: Some(file.path().to_owned()), ..by_file };
    RedisFeatureStore::connect(by_file, features()).await.unwrap();
    for url in ["http://127.0.0.1:1", "", "redis://:se cret@["] {
        let error = RedisFeatureStore::connect(options(url.to_owned(), 1), features()).await.err().unwrap();
        assert!(matches!(&error, StorageError::Invalid { field, .. } if field == "url"), "{url}: {error:?}");
    }
    let shown = format!("{:?}", options(format!("redis://:secret@{address}"), 1));
    assert!(shown.contains(&address) && !shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn what_was_kept_otherwise_is_refused() {
    if !available(Engine::Redis, "what_was_kept_otherwise_is_refused") {
        return;
    }
    drop(shared("kept:", 4).await);
    let refused = RedisFeatureStore::connect(on_shared("kept:", 5), features()).await.err().unwrap();
    assert_eq!(refused.to_string(), "partitions: are 4 under kept:");
    let redis = Redis::shared().unwrap();
    redis.ask(&["HSET", "kept:meta", "format", "3"]).unwrap();
    let refused = RedisFeatureStore::connect(on_shared("kept:", 4), features()).await.err().unwrap();
    assert_eq!(refused, StorageError::FormatVersion { found: 3, supported: 2 });
    assert!(refused.to_string().contains("format 3"), "{refused}");
    // What an older build kept is kept on, and is this build's from then on.
    redis.ask(&["HSET", "kept:meta", "format", "1"]).unwrap();
    drop(shared("kept:", 4).await);
    assert_eq!(redis.ask(&["HGET", "kept:meta", "format"]).unwrap(), "2");
}

#[tokio::test]
async fn a_full_server_refuses_the_whole_batch() {
    if !available(Engine::Redis, "a_full_server_refuses_the_whole_batch") {
        return;
    }
    let redis = Redis::start(&Server { max_memory: Some(8 << 20), ..Server::default() }).unwrap();
    let store = open(redis.url(), 1).await;
    let mut at = 0;
    let refused = loop {
        let users = (0..500).map(|n| (uid(at as u32 * 500 + n), state(59))).collect();
        match store.apply(EffectBatch { users, posteriors: vec![seen(1)], ..batch(at, at + 1) }).await {
            Ok(()) => at += 1,
            Err(e) => break e,
        }
        assert!(at < 100, "8 MiB hold 50,000 visitors");
    };
    assert_eq!(refused, StorageError::Overloaded);
    assert_eq!(store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap(), at);
    assert_eq!(store.user_count().await.unwrap(), at * 500);
    assert_eq!(impressions(&store).await, [(1, at as f32)]);
}

/// A partition's parts.
async fn exported(store: &RedisFeatureStore, partition: u16, max: usize) -> Vec<StorePart> {
    let checkpoints = store.checkpoints(store_partitions(store)).unwrap();
    let (mut parts, mut cursor) = (Vec::new(), Some(ExportCursor::default()));
    while let Some(from) = cursor {
        let (part, next) = checkpoints.export(partition, &from, max).await.unwrap();
        parts.push(part);
        cursor = next;
    }
    parts
}

/// As the tests here have them.
fn store_partitions(store: &RedisFeatureStore) -> u16 {
    [1, 8].into_iter().find(|&partitions| store.checkpoints(partitions).is_some()).unwrap()
}

#[tokio::test]
async fn an_export_does_not_outlive_its_server() {
    if !available(Engine::Redis, "an_export_does_not_outlive_its_server") {
        return;
    }
    let mut redis = Redis::start(&Server { append_only: true, ..Server::default() }).unwrap();
    let store = open(redis.url(), 1).await;
    let users = (0..3_000).map(|n| (uid(n), state(n))).collect();
    store.apply(EffectBatch { users, ..batch(0, 1) }).await.unwrap();
    let parts = exported(&store, 0, 100).await;
    assert!(parts.len() > 20);
    let found: HashMap<_, _> = parts.into_iter().flat_map(|part| part.users).collect();
    assert_eq!(found.len(), 3_000);
    assert!((0..3_000).all(|n| found[&uid(n)].as_ref() == Some(&state(n))));
    let checkpoints = store.checkpoints(1).unwrap();
    let (_, begun) = checkpoints.export(0, &ExportCursor::default(), 100).await.unwrap();
    redis.restart().unwrap();
    recovered(|| store.progress(USER_EVENTS_CONSUMER, 0)).await;
    // All is there again, and another server's cursor would miss some of it.
    let ended = checkpoints.export(0, &begun.unwrap(), 100).await.unwrap_err();
    assert!(matches!(ended, StorageError::Conflict { .. }), "{ended:?}");
    assert_eq!(store.user_count().await.unwrap(), 3_000);
}

#[tokio::test]
async fn a_restored_partition_leaves_the_others_alone() {
    if !available(Engine::Redis, "a_restored_partition_leaves_the_others_alone") {
        return;
    }
    // Of a prefix that a pattern would read otherwise.
    let store = shared("a*[b]?:", 8).await;
    let other = shared("aXb?:", 8).await;
    fill(&store, 8).await;
    fill(&other, 8).await;
    let (parts, checkpoints) = (exported(&store, 5, 10).await, store.checkpoints(8).unwrap());
    assert!(store.checkpoints(4).is_none());
    let totals = checkpoints.totals(5).await.unwrap();
    let restoration = checkpoints.begin_restore(5, totals.positions, 1).await.unwrap();
    assert_eq!(store.user_count().await.unwrap(), 7 * 20);
    let stranger = StorePart { users: vec![(visitors(3, 8, 1)[0], None)], ..StorePart::default() };
    let refused = checkpoints.restore(&restoration, stranger).await.unwrap_err();
    assert!(matches!(&refused, StorageError::Invalid { field, .. } if field == "users"), "{refused:?}");
    for part in parts {
        checkpoints.restore(&restoration, part).await.unwrap();
    }
    checkpoints.end_restore(&restoration, totals).await.unwrap();
    check(&store, 8).await;
    check(&other, 8).await;
}

#[derive(Default)]
struct Counts(Mutex<HashMap<&'static str, u64>>);

impl RedisObserver for Counts {
    fn answered(&self, command: &'static str, _: Duration, _: bool) {
        *self.0.lock().entry(command).or_default() += 1;
    }
}

#[tokio::test]
async fn batches_take_one_command_and_memory_is_told() {
    if !available(Engine::Redis, "batches_take_one_command_and_memory_is_told") {
        return;
    }
    let redis = Redis::start(&Server::default()).unwrap();
    let counts = Arc::new(Counts::default());
    let watched = RedisOptions { observer: Some(counts.clone()), ..options(redis.url(), 1) };
    // As an older build left it.
    redis.ask(&["HSET", &format!("{}meta", watched.prefix), "format", "1"]).unwrap();
    let store = RedisFeatureStore::connect(watched, features()).await.unwrap();
    let effects = |n: u64| {
        let users = (0..200).map(|i| (uid(n as u32 * 200 + i), state(30))).collect();
        EffectBatch { users, posteriors: vec![seen(n as u32)], ..batch(n, n + 1) }
    };
    store.apply(effects(0)).await.unwrap();
    let before: u64 = counts.0.lock().values().sum();
    for n in 1..11 {
        store.apply(effects(n)).await.unwrap();
    }
    assert_eq!(counts.0.lock().values().sum::<u64>() - before, 10);
    let memory = store.memory().await.unwrap();
    let of = |family| memory.families.iter().find(|(f, _)| *f == family).unwrap().1;
    let users = of(RedisFamily::Users);
    assert!((1_980..=2_420).contains(&users.keys), "{users:?}");
    assert!(users.bytes > users.keys * 300 && memory.used_bytes > users.bytes, "{memory:?}");
    assert_eq!(of(RedisFamily::Fences).keys, 0);
    assert!(counts.0.lock().keys().all(|command| REDIS_COMMANDS.contains(command)));
}
