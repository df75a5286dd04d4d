//! Events a second and a CPU second: `cargo bench -p attune-storage --bench redis`.
//!
//! The store: batches of 512 events, each read, applied and written as the embedder does it, with posteriors and outcomes;
//! in turns with it the same in batches of one, and a consumer that gets and sets one visitor's value for each event and
//! does nothing else: no decoding, no other effects, no offset.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

#[path = "redis/world.rs"]
mod world;

use attune_domain::{RequestId, Uid};
use attune_engines::{Engine, Redis, RedisOptions as Server, available};
use attune_storage::{
    EffectBatch, FeatureOptions, FeatureStore, OutcomeKey, PosteriorChange, RedisFeatureStore, RedisOptions,
    USER_EVENTS_CONSUMER,
};
use fred::clients::Client;
use fred::interfaces::ClientLike as _;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use world::World;

const VISITORS: u32 = 20_000;
const BATCH: usize = 512;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

struct Bench {
    store: RedisFeatureStore,
    peer: Client,
    world: World,
    next: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if !available(Engine::Redis, "redis") {
        return;
    }
    // Without rewrites of the file, which come when they like.
    let settings = vec![("auto-aof-rewrite-percentage".to_owned(), "0".to_owned())];
    let redis = Redis::start(&Server { append_only: true, settings, ..Server::default() }).unwrap();
    let patience = Duration::from_secs(30);
    let options = RedisOptions { timeout: patience, write_timeout: patience, ..RedisOptions::new(redis.url(), 1) };
    let features = FeatureOptions { half_life: Duration::from_secs(86_400), clock: Arc::new(|| world::NOW) };
    let store = RedisFeatureStore::connect(options, features).await.unwrap();
    let peer = Builder::from_config(Config::from_url(&redis.url()).unwrap()).build().unwrap();
    peer.init().await.unwrap();
    let mut bench = Bench { store, peer, world: World::new(7), next: 0 };
    bench.fill().await;
    let pids = [std::process::id(), redis.process_id().unwrap()];
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (way, rates) in rates.iter_mut().enumerate() {
            let (began, cpu) = (Instant::now(), pids.map(cpu_seconds));
            let mut events = 0;
            while began.elapsed() < ROUND {
                events += match way {
                    0 => bench.batch(BATCH).await,
                    1 => bench.batch(1).await,
                    _ => bench.one_by_one().await,
                };
            }
            let spent: Vec<_> = pids.iter().zip(cpu).map(|(&pid, before)| cpu_seconds(pid) - before).collect();
            let events = events as f64;
            rates.push([events / began.elapsed().as_secs_f64(), events / spent[0], events / spent[1]]);
        }
    }
    for (name, rates) in
        ["batches of 512", "the same, batches of 1", "GET and SET of a value, one by one"].iter().zip(&rates)
    {
        let [second, ours, redis] = [0, 1, 2].map(|column| {
            let mut column: Vec<_> = rates.iter().map(|rate| rate[column]).collect();
            column.sort_by(f64::total_cmp);
            column[column.len() / 2]
        });
        println!(
            "{name}: {second:.0} events/s, {ours:.0} a CPU second of the consumer, {redis:.0} of Redis ({ROUNDS} rounds, median)"
        );
    }
}

impl Bench {
    async fn fill(&mut self) {
        for first in (0..VISITORS).step_by(1_000) {
            let users = (first..first + 1_000).map(|n| (world::uid(n), self.world.visitor())).collect();
            self.apply(EffectBatch { users, ..Default::default() }).await;
        }
    }

    async fn apply(&mut self, batch: EffectBatch) {
        let (expected_offset, next_offset) = (self.next, self.next + BATCH as u64);
        let batch = EffectBatch { consumer: USER_EVENTS_CONSUMER, expected_offset, next_offset, ..batch };
        self.store.apply(batch).await.unwrap();
        self.next = next_offset;
    }

    fn visitor(&mut self) -> Uid {
        world::uid((self.world.share() * f64::from(VISITORS)) as u32)
    }

    async fn batch(&mut self, size: usize) -> usize {
        let events: Vec<_> = (0..size).map(|n| (self.visitor(), self.world.event(world::NOW + n as i64))).collect();
        let mut uids: Vec<_> = events.iter().map(|(uid, _)| *uid).collect();
        uids.sort_unstable();
        uids.dedup();
        let outcomes: Vec<_> = events
            .iter()
            .map(|(uid, event)| {
                let request = RequestId(uid.0[1..].try_into().unwrap());
                OutcomeKey { day: 20_000 + i64::from(event.item.0 % 3), request, item: event.item }
            })
            .collect();
        let (states, _, bits) = futures::try_join!(
            self.store.load_users(&uids),
            self.store.fences(&uids),
            self.store.load_outcomes(0, &outcomes)
        )
        .unwrap();
        let mut users: HashMap<_, _> = uids.into_iter().zip(states).collect();
        let mut batch = EffectBatch::default();
        for ((uid, event), (key, bits)) in events.iter().zip(outcomes.into_iter().zip(bits)) {
            let state = users.get_mut(uid).unwrap();
            state.version.next_offset = self.next + 1;
            state.window.insert(*event);
            batch.outcomes.push((key, bits | 1));
            let at = event.occurred_at;
            batch.posteriors.push(PosteriorChange { item: event.item, at, impressions: 1.0, rewards: 0.0 });
        }
        batch.users = users.into_iter().collect();
        self.apply(batch).await;
        size
    }

    async fn one_by_one(&mut self) -> usize {
        for _ in 0..BATCH {
            let key = Value::Bytes([&b"attune:{p0}:u:"[..], &self.visitor().0].concat().into());
            let value = self.ask("GET", vec![key.clone()]).await;
            self.ask("SET", vec![key, value, Value::from("KEEPTTL")]).await;
        }
        BATCH
    }

    async fn ask(&self, command: &'static str, args: Vec<Value>) -> Value {
        let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        self.peer.custom(command, args).await.unwrap()
    }
}

/// Of a process, so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
