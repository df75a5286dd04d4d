//! The platform on a real Kafka and a real Redis, which are killed, frozen and emptied under load, as are its own
//! processes, while partitions move between two embedders: visitors get every page, in the end each acknowledged event has
//! its effect once, and what is new is soon seen again. `cargo xtask faults` runs it: `ATTUNE_FAULTS` sets the number of
//! faults, without it nothing is broken here. `ATTUNE_TEST_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/feed.rs"]
mod feed;
#[path = "support/pages.rs"]
mod pages;
#[path = "support/platform.rs"]
mod platform;

use attune_domain::UserState;
use attune_identity::SubjectKey;
use attune_storage::FeatureStore as _;
use engines::{CATCH_UP, Engines, caught_up};
use feed::{CLIENTS, Client, check};
use pages::Pages;
use platform::*;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events a second of all clients together.
const RATE: f64 = 500.0;
/// Longer than a member of the group may be silent.
const SILENCE: Duration = Duration::from_millis(2_500);
/// How soon after a fault what is new is seen within [`FRESH`] again.
const RECOVERY: Duration = Duration::from_secs(30);
const FRESH: Duration = Duration::from_secs(5);
/// Faults between two looks at the freshness.
const LOOK_EVERY: u64 = 10;

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillEmbedder,
    KillOrigin,
    KillBroker,
    EmptyRedis,
    FreezeRedis,
    RestartRedis,
    BothGone,
    /// Its partitions are taken from it.
    FreezeEmbedder,
    /// Some partitions move to it, and back.
    SecondEmbedder,
    /// One of the brokers, for a minute.
    BrokerGone,
}

/// Those that a random run draws from.
const ANY: [Fault; 9] = [
    Fault::KillEmbedder,
    Fault::KillOrigin,
    Fault::KillBroker,
    Fault::EmptyRedis,
    Fault::FreezeRedis,
    Fault::RestartRedis,
    Fault::BothGone,
    Fault::FreezeEmbedder,
    Fault::SecondEmbedder,
];

impl Fault {
    /// How often the consumers' group shares its partitions out anew.
    const fn rebalances(self) -> u64 {
        match self {
            Self::FreezeEmbedder | Self::SecondEmbedder => 2,
            _ => 0,
        }
    }
}

/// Where it was asked for.
fn number_of_faults(test: &str) -> Option<u64> {
    let faults = std::env::var_os("ATTUNE_FAULTS").and_then(|faults| faults.to_str()?.parse().ok());
    if faults.is_none() {
        eprintln!("skipped: {test}: ATTUNE_FAULTS does not say how many faults (cargo xtask faults)");
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_has_its_effect_once_whatever_dies() {
    let name = "what_is_acknowledged_has_its_effect_once_whatever_dies";
    let Some(count) = number_of_faults(name) else { return };
    let Some(engines) = Engines::start(name) else { return };
    let mut rng = Rng::of_run();
    // Each kind once, then any.
    let any = |rng: &mut Rng| ANY[rng.next(ANY.len() as u64) as usize];
    let faults = (0..count).map(|n| ANY.get(n as usize).copied().unwrap_or_else(|| any(&mut rng))).collect();
    under_load(engines, faults, rng).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_of_three_may_be_gone_for_a_minute() {
    let name = "one_broker_of_three_may_be_gone_for_a_minute";
    if number_of_faults(name).is_none() {
        return;
    }
    let Some(engines) = Engines::with_brokers(3, name) else { return };
    under_load(engines, vec![Fault::BrokerGone], Rng::of_run()).await;
}

async fn under_load(mut engines: Engines, faults: Vec<Fault>, mut rng: Rng) {
    let _alone = feed::alone().await;
    let (dir, arguments) = engines.filled();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("--separate");
    let platform = Platform::start(&dir, &arguments);
    let key = SubjectKey::load(&dir.path().join("state/keys/subject.key")).unwrap();
    let feeding: Vec<_> = (0..CLIENTS)
        .map(|number| Client::new(number, Rng(rng.next(u64::MAX)), RATE))
        .map(|client| tokio::spawn(client.feed_until_stopped(platform.edge.clone())))
        .collect();
    let pages = Arc::new(Pages::default());
    let asking = tokio::spawn(Arc::clone(&pages).ask(platform.edge.clone()));
    let mut probes = Vec::new();

    for (number, &fault) in (1..).zip(&faults) {
        tokio::time::sleep(Duration::from_millis(500 + rng.next(1_500))).await;
        println!("{fault:?}");
        let (pause, which) = (Duration::from_millis(rng.next(1_500)), rng.next(u64::MAX));
        tokio::task::block_in_place(|| strike(fault, &mut engines, &platform, pause, which));
        if number % LOOK_EVERY == 0 || number as usize == faults.len() {
            let struck = Instant::now();
            loop {
                let (id, seen) = fresh(&engines, &platform, &key, probes.len()).await;
                probes.push(id);
                if seen < FRESH {
                    println!("{seen:.1?} from event to state, {:.1?} after the fault", struck.elapsed());
                    break;
                }
                assert!(struck.elapsed() < RECOVERY, "{seen:.1?} from event to state after {RECOVERY:?}");
            }
        }
    }
    feed::stop();
    let mut acknowledged = probes;
    for client in feeding {
        acknowledged.extend(client.await.unwrap().acknowledged);
    }
    let failures = pages.end(asking).await;
    let (log, store) = engines.stores().await;
    caught_up(&*log, &store).await;
    assert!(platform.interrupt().success());
    let rebalances: u64 = faults.iter().map(|fault| fault.rebalances()).sum();
    println!("{} faults, {rebalances} rebalances: {} events acknowledged, {pages}", faults.len(), acknowledged.len());
    assert!(failures.is_empty(), "{} of the pages failed, such as {:?}", failures.len(), &failures[..1]);
    check(&*log, &store, &key, &acknowledged, true).await;
}

fn strike(fault: Fault, engines: &mut Engines, platform: &Platform, pause: Duration, which: u64) {
    let kill = |service: &str| {
        // One that is just being started again has died already.
        if let Some(pid) = platform.pid_of(service) {
            signal(pid, libc::SIGKILL);
        }
    };
    let Engines { kafka, redis } = engines;
    let broker = which as usize % kafka.nodes().len();
    match fault {
        Fault::KillEmbedder => kill("embedder"),
        Fault::KillOrigin => kill("origin"),
        Fault::KillBroker | Fault::BrokerGone => {
            let node = &mut kafka.nodes_mut()[broker];
            node.kill().unwrap();
            std::thread::sleep(if matches!(fault, Fault::BrokerGone) { Duration::from_secs(60) } else { pause });
            node.restart().unwrap();
        }
        Fault::EmptyRedis => {
            redis.kill().unwrap();
            std::thread::sleep(pause);
            redis.restart_empty().unwrap();
        }
        Fault::FreezeRedis => {
            redis.pause().unwrap();
            std::thread::sleep(pause);
            redis.resume().unwrap();
        }
        Fault::RestartRedis => {
            redis.kill().unwrap();
            std::thread::sleep(pause);
            redis.restart().unwrap();
        }
        Fault::BothGone => {
            redis.kill().unwrap();
            kafka.nodes_mut().iter_mut().for_each(|node| node.kill().unwrap());
            std::thread::sleep(pause);
            redis.restart().unwrap();
            kafka.restart().unwrap();
        }
        Fault::FreezeEmbedder => {
            if let Some(pid) = platform.pid_of("embedder") {
                freeze(pid);
                std::thread::sleep(SILENCE + pause);
                signal(pid, libc::SIGCONT);
            }
        }
        Fault::SecondEmbedder => {
            // Without a folder of its own for checkpoints, of which each partition has one.
            let own = [("own.checkpoints", ""), ("insight.folder", "")];
            if let Some(second) = platform.second("embedder", &own) {
                std::thread::sleep(SILENCE + pause);
                drop(second);
            }
        }
    }
}

/// Takes an event of a new visitor, and how long it takes from its acceptance until the store has it.
async fn fresh(
    engines: &Engines,
    platform: &Platform,
    key: &SubjectKey,
    number: usize,
) -> ((String, String), Duration) {
    let (_, store) = engines.stores().await;
    let (user, id) = (format!("probe {number}"), format!("probe-{number}"));
    let events = json!({"events": [event(&id, "click", &user, "i1")]});
    let begun = Instant::now();
    while !platform.edge.try_post("/v1/feedback", &events).await.is_ok_and(|answer| answer.status == 202) {
        assert!(begun.elapsed() < CATCH_UP, "events are taken again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let accepted = Instant::now();
    let uid = key.uid(&user);
    while store.load_users(&[uid]).await.is_ok_and(|users| users[0] == UserState::default()) {
        assert!(accepted.elapsed() < CATCH_UP, "an event has its effect");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ((user, id), accepted.elapsed())
}
