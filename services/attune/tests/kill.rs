//! The whole platform is killed at random moments under feedback, or its disk is full for a while; in the end every
//! acknowledged event stands in the log exactly once, and the feature store holds what the log says, computed anew.
//! `ATTUNE_TEST_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/feed.rs"]
mod feed;
#[path = "support/pages.rs"]
mod pages;
#[path = "support/platform.rs"]
mod platform;

use attune_embedder::EmbedderConfig;
use attune_identity::SubjectKey;
use attune_runtime::system_clock;
use attune_storage::{EmbeddedEventLog, EmbeddedFeatureStore};
use feed::{CLIENTS, Client, check};
use pages::Pages;
use platform::*;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const KILLS: u64 = 20;
/// Of all clients together, in a second.
const RATE: f64 = 2_000.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_counted_twice() {
    let _alone = feed::alone().await;
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
    check_stores(&folder, &acknowledged).await;
    assert!(acknowledged.len() as f64 > 0.5 * RATE * under_load.as_secs_f64(), "too little load to mean anything");
}

/// Of a platform that has ended.
async fn check_stores(folder: &Path, acknowledged: &[(String, String)]) {
    let key = SubjectKey::load(&folder.join("keys/subject.key")).unwrap();
    let log = EmbeddedEventLog::open(&folder.join("origin/events")).unwrap();
    let options = EmbedderConfig::default().feature_options(system_clock());
    let store = EmbeddedFeatureStore::open(&folder.join("embedder"), options).unwrap();
    check(&log, &store, &key, acknowledged, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_events_and_keeps_the_pages() {
    let name = "a_full_disk_refuses_events_and_keeps_the_pages";
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: {name}: this machine lets no process have file systems of its own (unshare -rm)");
        return;
    }
    let _alone = feed::alone().await;
    let mut rng = Rng::of_run();
    let dir = state();
    let (disk, settings) = (dir.path().join("disk"), dir.path().join("settings.toml"));
    fs::create_dir(&disk).unwrap();
    fs::write(&settings, "[edge]\nfeedback_deadline = \"500ms\"\n").unwrap();
    // What is on the disk is kept for this test to read, once the platform has ended.
    let small = "mount -t tmpfs -o size=256m none \"$0\" && cp -a \"$1\" \"$0\" && shift || exit; \
                 setpriv --pdeathsig TERM \"$@\" & up=$!; trap \"kill -INT $up\" INT; wait $up; wait $up; ended=$?; \
                 cp -a \"$0/state\" \"$0.after\" && exit $ended";
    // A shell cannot trap a signal that was ignored when it began, as this one is where tests run in the background.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT", "unshare", "-rm", "sh", "-c", small])
        .arg(&disk)
        .arg(dir.path().join("state"))
        .arg(env!("CARGO_BIN_EXE_attune"));
    let arguments = ["--separate", "--config", settings.to_str().unwrap()];
    let platform = Platform::spawn_by(command, &disk.join("state"), &arguments).unwrap();
    let filler = PathBuf::from(format!("/proc/{}/root{}/filler", platform.pid(), disk.display()));
    let pages = Arc::new(Pages::default());
    let asking = tokio::spawn(Arc::clone(&pages).ask(platform.edge.clone()));
    let feeding: Vec<_> = (0..CLIENTS)
        .map(|number| Client::new(number, Rng(rng.next(u64::MAX)), RATE))
        .map(|client| tokio::spawn(client.feed_until_stopped(platform.edge.clone())))
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    fill(&filler);
    let mut probes = Vec::new();
    let refused_after = until(&platform.edge, &mut probes, 503).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(probe(&platform.edge, &mut probes).await, 503);
    fs::remove_file(&filler).unwrap();
    let taken_after = until(&platform.edge, &mut probes, 202).await;
    // Of one that was refused nobody knows whether it was written.
    let again = platform.edge.post("/v1/feedback", &json!({ "events": &probes })).await;
    assert_eq!(again.status, 202, "{}", again.text());
    feed::stop();
    let mut acknowledged: Vec<_> =
        (0..probes.len()).map(|number| ("u1".to_owned(), format!("probe {number}"))).collect();
    for client in feeding {
        acknowledged.extend(client.await.unwrap().acknowledged);
    }
    let failures = pages.end(asking).await;
    println!(
        "a full disk is told after {refused_after:.1?}, and {taken_after:.1?} after there is room events are taken again; \
         {} events acknowledged, {pages}",
        acknowledged.len()
    );
    assert!(failures.is_empty(), "{} of the pages failed, such as {:?}", failures.len(), &failures[..1]);
    assert!(platform.interrupt().success());
    let after = dir.path().join("disk.after");
    // Ready means that the store has caught up with the log.
    assert!(Platform::spawn(&after, &[]).unwrap().interrupt().success());
    check_stores(&after, &acknowledged).await;
}

/// Until nothing more fits.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for size in [1 << 20, 4 << 10, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

/// What a new event is answered.
async fn probe(edge: &Site, probes: &mut Vec<Value>) -> u16 {
    let event = event(&format!("probe {}", probes.len()), "click", "u1", "i1");
    probes.push(event.clone());
    edge.post("/v1/feedback", &json!({"events": [event]})).await.status
}

/// How long it takes until a new event is answered so.
async fn until(edge: &Site, probes: &mut Vec<Value>, status: u16) -> Duration {
    let begun = Instant::now();
    while probe(edge, probes).await != status {
        assert!(begun.elapsed() < Duration::from_secs(60), "events are answered {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}
