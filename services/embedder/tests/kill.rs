//! A process with both embedded stores and the consumer under load is killed at random moments; in the end the store
//! must hold what the log says, computed anew and in another way.
//!
//! The process is this test binary again, told by a variable. `ATTUNE_TEST_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/recompute.rs"]
mod recompute;
#[path = "support/bed.rs"]
mod support;

use attune_domain::EventKind;
use attune_embedder::EmbedderConfig;
use attune_storage::{EmbeddedEventLog, EmbeddedFeatureStore, Topic};
use recompute::check;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::*;

const ROUNDS: u64 = 10;
const USERS: u64 = 150;
const ITEMS: u64 = 60;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

fn open(dir: &Path) -> Bed {
    let log = EmbeddedEventLog::open(&dir.join("log")).unwrap();
    let options = EmbedderConfig::default().feature_options(clock());
    Bed::on(Arc::new(log), Arc::new(EmbeddedFeatureStore::open(&dir.join("features"), options).unwrap()))
}

/// The process that is killed. Does nothing in an ordinary run of the tests.
#[test]
fn platform() {
    let (Some(dir), Some(seed)) = (std::env::var_os("ATTUNE_TEST_DIR"), std::env::var_os("ATTUNE_TEST_ROUND_SEED"))
    else {
        return;
    };
    let mut rng = Rng(seed.to_str().unwrap().parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let bed = open(Path::new(&dir));
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        tokio::spawn(bed.embedder().run(stopping));
        println!("\nrunning");
        // Bounded, so that a parent that is gone leaves no process behind.
        for _ in 0..20_000 {
            let events = (0..1 + rng.next(40)).map(|_| {
                let kind = EventKind::ALL[rng.next(6) as usize];
                let (user, request) = (rng.next(USERS) as u32, rng.next(400) as u32);
                let event = decided(user, request, rng.next(ITEMS) as u32, kind);
                Event { imported: rng.next(10) == 0, occurred_at: NOW - rng.next(1 << 30) as i64, ..event }
            });
            bed.write(events.collect()).await;
            if rng.next(5) == 0 {
                bed.write_attributes(rng.next(USERS) as u32, &[("age", &rng.next(90).to_string())]).await;
            }
            if rng.next(20) == 0 {
                bed.write_raw(Topic::UserEvents, bytes::Bytes::from_static(b"\xff")).await;
            }
        }
    });
}

fn run_and_kill(dir: &Path, seed: u64, after: Duration) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "platform", "--nocapture"])
        .env("ATTUNE_TEST_DIR", dir)
        .env("ATTUNE_TEST_ROUND_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "running"));
    std::thread::sleep(after);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was killed, it did not end");
}

#[tokio::test]
async fn the_store_is_what_the_log_says_after_being_killed() {
    let seed = match std::env::var_os("ATTUNE_TEST_SEED") {
        Some(seed) => seed.to_str().unwrap().parse().unwrap(),
        None => u64::from(std::process::id()),
    };
    println!("ATTUNE_TEST_SEED={seed}");
    let mut rng = Rng(seed);
    let dir = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        run_and_kill(dir.path(), seed.wrapping_mul(ROUNDS) + round, Duration::from_millis(50 + rng.next(300)));
    }
    let bed = open(dir.path()).caught_up().await;
    let (users, sums) = check(bed.log.as_ref(), bed.store.as_ref()).await;
    let dead = bed.log.bounds(Topic::UserEventsDead).await.unwrap().end;
    let end = bed.log.bounds(Topic::UserEvents).await.unwrap().end;
    println!("{ROUNDS} rounds, {end} records, {dead} dead, {} visitors, {} items", users, sums);
    assert!(end > ROUNDS * 40 && users as u64 > USERS / 2);
}
