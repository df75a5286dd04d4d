//! What 100,000 visitors take in Redis: `cargo bench -p attune-storage --bench redis_memory`.
//!
//! Visitors have from one event to thousands, in sessions days apart, on 10,000 items of unlike popularity. Redis' bytes
//! are what `MEMORY USAGE` says beyond the same key with nothing in it.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

#[path = "redis/world.rs"]
mod world;

use attune_domain::{Uid, UserState};
use attune_engines::{Engine, Redis, RedisOptions as Server, available};
use attune_storage::{
    EffectBatch, FeatureOptions, FeatureStore, RedisFeatureStore, RedisOptions, USER_EVENTS_CONSUMER,
};
use fred::interfaces::ClientLike as _;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use std::sync::Arc;
use std::time::Duration;
use world::World;

const VISITORS: u32 = 100_000;
const BATCH: u32 = 1_000;

#[tokio::main]
async fn main() {
    if !available(Engine::Redis, "redis_memory") {
        return;
    }
    let redis = Redis::start(&Server::default()).unwrap();
    let patience = Duration::from_secs(30);
    let options = RedisOptions { timeout: patience, write_timeout: patience, ..RedisOptions::new(redis.url(), 1) };
    let features = FeatureOptions { half_life: Duration::from_secs(86_400), clock: Arc::new(|| world::NOW) };
    let store = RedisFeatureStore::connect(options, features).await.unwrap();
    let client = Builder::from_config(Config::from_url(&redis.url()).unwrap()).build().unwrap();
    client.init().await.unwrap();
    let ask = |command: &'static str, args: Vec<Value>| {
        client.custom::<Value, Value>(CustomCommand::new_static(command, ClusterHash::FirstKey, false), args)
    };
    let key = |uid: &Uid| Value::Bytes([&b"attune:{p0}:u:"[..], &uid.0].concat().into());
    let usage = |key: Value| ask("MEMORY", vec![Value::from("USAGE"), key]);
    let nobody = key(&world::uid(u32::MAX));
    ask("SET", vec![nobody.clone(), Value::from("")]).await.unwrap();
    let empty = usage(nobody.clone()).await.unwrap().as_u64().unwrap();
    ask("DEL", vec![nobody]).await.unwrap();

    let used = store.memory().await.unwrap().used_bytes;
    let mut world = World::new(7);
    let mut full = vec![false; VISITORS as usize];
    for first in (0..VISITORS).step_by(BATCH as usize) {
        let users: Vec<(Uid, UserState)> = (first..first + BATCH).map(|n| (world::uid(n), world.visitor())).collect();
        for (n, (_, state)) in (first as usize..).zip(&users) {
            full[n] = state.window.events().len() == attune_domain::WINDOW_EVENTS;
        }
        let (expected_offset, next_offset) = (first.into(), u64::from(first + BATCH));
        let consumer = USER_EVENTS_CONSUMER;
        store.apply(EffectBatch { consumer, expected_offset, next_offset, users, ..Default::default() }).await.unwrap();
    }
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for n in 0..VISITORS {
        let key = key(&world::uid(n));
        let (value, used) = futures::try_join!(ask("STRLEN", vec![key.clone()]), usage(key)).unwrap();
        values.push(value.as_u64().unwrap());
        bytes.push(used.as_u64().unwrap() - empty);
    }
    let memory = store.memory().await.unwrap();
    println!("an empty key takes {empty} bytes, and its expiry more that Redis does not tell");
    row("value", values.iter().copied());
    row("Redis above an empty key", bytes.iter().copied());
    row("Redis, full windows", bytes.iter().zip(&full).filter(|(_, full)| **full).map(|(bytes, _)| *bytes));
    let each = (memory.used_bytes - used) as f64 / f64::from(VISITORS);
    println!("used_memory grew by {each:.0} bytes a visitor; estimated: {:?}", memory.families[0]);
}

fn row(name: &str, sizes: impl Iterator<Item = u64>) {
    let mut sizes: Vec<_> = sizes.collect();
    sizes.sort_unstable();
    let at = |share: f64| sizes[((sizes.len() - 1) as f64 * share) as usize];
    let mean = sizes.iter().sum::<u64>() as f64 / sizes.len() as f64;
    println!("{name}, bytes of {}: mean {mean:.0}, p50 {}, p99 {}, max {}", sizes.len(), at(0.5), at(0.99), at(1.0));
}
