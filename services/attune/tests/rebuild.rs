//! `attune rebuild`: what is computed from the log, computed anew and from a checkpoint, is what it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/feed.rs"]
mod feed;
#[path = "support/platform.rs"]
mod platform;

use attune_embedder::EmbedderConfig;
use attune_identity::SubjectKey;
use attune_runtime::system_clock;
use attune_storage::{
    CheckpointFile, CheckpointPart, EmbeddedEventLog, EmbeddedFeatureStore, EventLog, Topic, checkpoint_path,
};
use feed::{CLIENTS, Client, check};
use platform::*;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const RATE: f64 = 1_000.0;
const PART: CheckpointPart = CheckpointPart { partition: 0, partitions: 1 };
const SETTINGS: &str = "[embedder]\ncheckpoint_every = \"300ms\"\n";
const PATIENCE: Duration = Duration::from_secs(30);

/// Exit code, stdout, stderr.
fn rebuild(state: &Path, args: &[&str]) -> (i32, String, String) {
    let output = attune().arg("rebuild").arg("--state").arg(state).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn rebuilt(state: &Path, args: &[&str]) -> Value {
    let (code, out, err) = rebuild(state, &[args, &["--json"]].concat());
    assert_eq!(code, 0, "{args:?}: {err}");
    println!("{}", out.trim());
    serde_json::from_str(&out).unwrap()
}

fn position(state: &Path) -> u64 {
    let file = CheckpointFile::open(&state.join("checkpoints"), PART).unwrap();
    file.map_or(0, |file| file.totals().positions.events)
}

/// A checkpoint of all that the log holds.
async fn checkpointed(state: &Path, end: u64) {
    let began = Instant::now();
    while position(state) < end {
        assert!(began.elapsed() < PATIENCE, "no checkpoint of {end}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn end(state: &Path) -> u64 {
    let log = EmbeddedEventLog::open(&state.join("origin/events")).unwrap();
    log.bounds(Topic::UserEvents).await.unwrap().end
}

async fn check_folder(state: &Path, acknowledged: &[(String, String)]) {
    let key = SubjectKey::load(&state.join("keys/subject.key")).unwrap();
    let log = EmbeddedEventLog::open(&state.join("origin/events")).unwrap();
    let options = EmbedderConfig::default().feature_options(system_clock());
    let store = EmbeddedFeatureStore::open(&state.join("embedder"), options).unwrap();
    check(&log, &store, &key, acknowledged, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_store_is_what_it_was_from_wherever_it_began() {
    let mut rng = Rng::of_run();
    let dir = state();
    let folder = dir.path().join("state");
    let config = dir.path().join("settings.toml");
    fs::write(&config, SETTINGS).unwrap();
    let config = config.to_str().unwrap();
    let filled = end(&folder).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let fed_from = now();
    let platform = Platform::start(&dir, &["--config", config]);
    let feeding: Vec<_> = (0..CLIENTS)
        .map(|number| Client::new(number, Rng(rng.next(u64::MAX)), RATE))
        .map(|client| tokio::spawn(client.feed_until_stopped(platform.edge.clone())))
        .collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (code, _, err) = rebuild(&folder, &[]);
    assert!(code == 75 && err.contains("in use by process"), "{code} {err}");
    feed::stop();
    let mut acknowledged = Vec::new();
    for client in feeding {
        acknowledged.extend(client.await.unwrap().acknowledged);
    }
    let all = filled + acknowledged.len() as u64;
    checkpointed(&folder, all).await;
    assert!(platform.interrupt().success());
    assert_eq!(end(&folder).await, all);

    // Everything is on the checkpoint; nothing of the log is replayed.
    let from_checkpoint = rebuilt(&folder, &["--from", "checkpoint"]);
    assert_eq!((&from_checkpoint["restored"], &from_checkpoint["events"]), (&all.into(), &0.into()));
    check_folder(&folder, &acknowledged).await;
    let from_start = rebuilt(&folder, &["--from", "start"]);
    assert_eq!((&from_start["restored"], &from_start["events"]), (&0.into(), &all.into()));
    assert_eq!(from_start["users"], from_checkpoint["users"]);
    check_folder(&folder, &acknowledged).await;

    // The metrics of the stream from a time on: what was fed, without the history before.
    let rewound = rebuilt(&folder, &["--only", "insight", "--from", &fed_from]);
    assert_eq!(rewound, serde_json::json!({"event": "rewound", "events": acknowledged.len()}));
    assert!(folder.join("embedder/insight.checkpoint").exists());
    let rewound = rebuilt(&folder, &["--only", "insight"]);
    assert_eq!(rewound["events"], all);
    assert!(!folder.join("embedder/insight.checkpoint").exists());

    for (args, code, wanted) in [
        (&["--from", &fed_from[..]][..], 64, "--only insight"),
        (&["--only", "insight", "--from", "checkpoint"], 64, "by itself"),
    ] {
        let (found, _, err) = rebuild(&folder, args);
        assert!(found == code && err.contains(wanted) && err.lines().count() == 1, "{args:?}: {found} {err}");
    }
    // One of a newer build is refused by all who would use it.
    fs::remove_dir_all(folder.join("checkpoints")).unwrap();
    let (code, _, err) = rebuild(&folder, &["--from", "checkpoint"]);
    assert!(code == 65 && err.contains("there is no checkpoint") && err.contains("features-0.checkpoint"), "{err}");
    let platform = Platform::start(&dir, &["--config", config]);
    checkpointed(&folder, all).await;
    assert!(platform.interrupt().success());
    let path = checkpoint_path(&folder.join("checkpoints"), 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 3;
    fs::write(&path, &bytes).unwrap();
    let refused = Platform::spawn(&folder, &[]).err().unwrap();
    assert!(refused.contains("features-0.checkpoint has format 3, this build reads 2"), "{refused}");
    let (code, _, err) = rebuild(&folder, &["--from", "start"]);
    assert!(code == 65 && err.contains("has format 3, this build reads 2"), "{code} {err}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_folder_without_a_platform_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = rebuild(dir.path(), &[]);
    assert!(code == 65 && err.contains("is not a state folder"), "{code} {err}");
}
