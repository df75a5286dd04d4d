//! The whole platform is killed at random moments under feedback; in the end every acknowledged event stands in the
//! log exactly once, and the feature store holds what the log says, computed anew. `ATTUNE_TEST_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/feed.rs"]
mod feed;
#[path = "support/platform.rs"]
mod platform;

use attune_embedder::EmbedderConfig;
use attune_identity::SubjectKey;
use attune_runtime::system_clock;
use attune_storage::{EmbeddedEventLog, EmbeddedFeatureStore};
use feed::{CLIENTS, Client, check};
use platform::*;
use std::process::Stdio;
use std::time::Duration;
use tokio::time::Instant;

const KILLS: u64 = 20;
/// Of all clients together, in a second.
const RATE: f64 = 2_000.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_counted_twice() {
    let mut rng = Rng::of_run();
    let dir = state();
    let folder = dir.path().join("state");
    let mut clients: Vec<_> = (0..CLIENTS).map(|number| Client::new(number, Rng(rng.next(u64::MAX)), RATE)).collect();
    let begun = Instant::now();
    let mut under_load = Duration::ZERO;
    for round in 0..KILLS {
        // Now and then it is killed while it starts.
        if round % 5 == 4 {
            let mut starting = attune();
            starting.args(["up", "--listen", "127.0.0.1:0", "--state"]).arg(&folder).stdout(Stdio::null());
            let mut starting = starting.spawn().unwrap();
            tokio::time::sleep(Duration::from_millis(20 + rng.next(400))).await;
            starting.kill().unwrap();
            starting.wait().unwrap();
        }
        let platform = Platform::start(&dir, &[]);
        let feeding: Vec<_> =
            clients.drain(..).map(|client| tokio::spawn(client.feed(platform.edge.clone()))).collect();
        let load = Duration::from_millis(200 + rng.next(1_300));
        tokio::time::sleep(load).await;
        under_load += load;
        platform.kill();
        for client in feeding {
            clients.push(client.await.unwrap());
        }
    }
    let platform = Platform::start(&dir, &[]);
    for client in &mut clients {
        if let Some(batch) = client.unanswered.take() {
            assert!(client.send(&platform.edge, batch).await && client.unanswered.is_none());
        }
    }
    assert!(platform.interrupt().success());
    // Ready means that the store has caught up with the log; without traffic it stays so.
    assert!(Platform::start(&dir, &[]).interrupt().success());

    let (batches, duplicates) = clients.iter().fold((0, 0), |(b, d), c| (b + c.batches, d + c.duplicates));
    let acknowledged: Vec<_> = clients.into_iter().flat_map(|c| c.acknowledged).collect();
    println!(
        "{KILLS} kills in {:.0?}, {under_load:.0?} under load: {batches} batches, {} events acknowledged ({:.0} a second), \
         {duplicates} of them had been made durable by a batch that was never answered",
        begun.elapsed(),
        acknowledged.len(),
        acknowledged.len() as f64 / under_load.as_secs_f64(),
    );
    let key = SubjectKey::load(&folder.join("keys/subject.key")).unwrap();
    let log = EmbeddedEventLog::open(&folder.join("origin/events")).unwrap();
    let options = EmbedderConfig::default().feature_options(system_clock());
    let store = EmbeddedFeatureStore::open(&folder.join("embedder"), options).unwrap();
    check(&log, &store, &key, &acknowledged, false).await;
    assert!(acknowledged.len() as f64 > 0.5 * RATE * under_load.as_secs_f64(), "too little load to mean anything");
}
