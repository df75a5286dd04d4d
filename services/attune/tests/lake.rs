//! What a real platform did is in its lake, once; an erased visitor is not; and another platform is filled from it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;

use attune_domain::{Uid, UserState};
use attune_identity::SubjectKey;
use attune_lake::tables::events::EventRow;
use attune_lake::tables::training::TrainingRow;
use attune_lake::{Lake, Row, Table, Value};
use attune_runtime::system_clock;
use attune_storage::{
    EmbeddedEventLog, EmbeddedFeatureStore, EventLog as _, FeatureOptions, FeatureStore as _, Topic,
    USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER,
};
use platform::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const VISITORS: u32 = 12;

/// Pages, what was seen of them and clicked, and what the shop says meanwhile. Gives how many events were sent.
async fn visit(platform: &Platform, pages: u32, tag: &str) -> u64 {
    let mut sent = 0;
    for n in 0..pages {
        let user = format!("u{}", n % VISITORS);
        let page = platform.edge.page(&user).await.json();
        let mut events = Vec::new();
        for (slot, item) in page["items"].as_array().unwrap().iter().enumerate() {
            for kind in ["impression", "click"].into_iter().take(1 + usize::from((slot as u32 + n).is_multiple_of(4))) {
                let mut event =
                    event(&format!("{tag}-{n}-{slot}-{kind}"), kind, &user, item["item_id"].as_str().unwrap());
                event["request_id"] = page["request_id"].clone();
                event["position"] = json!(slot);
                events.push(event);
            }
        }
        sent += events.len() as u64;
        let receipt = platform.edge.post("/v1/feedback", &json!({"events": events})).await;
        assert_eq!(receipt.status, 202, "{}", receipt.text());
        let attributes = json!({"attributes": {"age": format!("{}", 20 + n % 3)}});
        assert!(platform.admin.put(&format!("/v1/users/{user}"), &attributes).await.status < 300);
    }
    let item = json!({"title": "Late arrival", "categories": ["jazz"], "available": true});
    assert!(platform.admin.put("/v1/items/late", &item).await.status < 300);
    sent
}

fn run(args: &[&str]) -> (i32, String, String) {
    let output = attune().args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The report of an export with outcomes of the last second left out, by table.
fn export(lake: &Path, from: &[&str]) -> BTreeMap<String, serde_json::Value> {
    let mut args = vec!["export", "--to", lake.to_str().unwrap(), "--json", "--horizon", "1s"];
    args.extend(from);
    let (code, stdout, stderr) = run(&args);
    assert_eq!(code, 0, "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let tables = report["tables"].as_array().unwrap();
    tables.iter().map(|table| (table["table"].as_str().unwrap().to_owned(), table.clone())).collect()
}

fn rows(lake: &Lake, table: Table) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in lake.parts(table) {
        lake.verify(part).unwrap();
        lake.read(table, part, |row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
    }
    rows
}

fn uid_in(row: &Row) -> Uid {
    let Value::Bytes(uid) = &row[1] else { panic!("{:?}", row[1]) };
    Uid::from_slice(uid).unwrap()
}

async fn end(state: &Path, topic: Topic) -> u64 {
    EmbeddedEventLog::open(&state.join("origin/events")).unwrap().bounds(topic).await.unwrap().end
}

/// Visitors' states once everything of the log is in them, and how many items have evidence.
async fn states(state: &Path, uids: &[Uid]) -> (Vec<UserState>, usize) {
    let (events, updates) = (end(state, Topic::UserEvents).await, end(state, Topic::UserUpdates).await);
    let options = FeatureOptions::hourly(Duration::from_secs(14 * 86_400), system_clock());
    let store = EmbeddedFeatureStore::open(&state.join("embedder"), options).unwrap();
    assert_eq!(store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap(), events);
    assert_eq!(store.progress(USER_UPDATES_CONSUMER, 0).await.unwrap(), updates);
    (store.load_users(uids).await.unwrap(), store.posteriors().await.unwrap().counts.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_holds_what_was_done_once_and_fills_another_platform() {
    let dir = state();
    let (folder, lake) = (dir.path().join("state"), dir.path().join("lake"));
    let platform = Platform::start(&dir, &[]);
    let history = u64::from(USERS) * 100;
    let first = visit(&platform, 40, "a").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;

    let running = ["--edge", &platform.edge.address];
    let report = export(&lake, &running);
    assert_eq!(report["events"]["rows"], history + first);
    assert_eq!(report["items"]["rows"], ITEMS + 1);
    assert_eq!(report["users"]["rows"], 40);
    assert_eq!(report["impressions"]["rows"], 400);
    assert_eq!(report["training"]["rows"], 400);
    let manifest = std::fs::read(lake.join("manifest.json")).unwrap();
    let again = export(&lake, &running);
    assert_eq!((&again["events"]["rows"], &again["items"]["rows"]), (&json!(0), &json!(0)));
    assert_eq!(std::fs::read(lake.join("manifest.json")).unwrap(), manifest, "nothing happened in between");

    let second = visit(&platform, 20, "b").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(platform.interrupt().success());
    let stopped = ["--state", folder.to_str().unwrap()];
    let report = export(&lake, &stopped);
    assert_eq!(
        (&report["events"]["rows"], &report["events"]["total_rows"]),
        (&json!(second), &json!(history + first + second))
    );
    assert_eq!(report["training"]["total_rows"], 600);
    let outcome = &report["training"]["training"];
    println!("training: {outcome}");
    // What was read as of a decision is what the decision saw, where it had seen all of it.
    assert_eq!(outcome["differing"], 0);
    assert!(outcome["compared"].as_u64().unwrap() >= 30, "{outcome}");

    let read = Lake::open(&lake).unwrap();
    let events: Vec<_> = rows(&read, Table::Events).into_iter().map(|row| EventRow::from_row(row).unwrap()).collect();
    let clicks = events.iter().filter(|row| row.event.decided.is_some() && row.event.kind.as_str() == "click").count();
    let training: Vec<_> =
        rows(&read, Table::Training).into_iter().map(|row| TrainingRow::from_row(row).unwrap()).collect();
    assert_eq!(training.iter().filter(|row| row.clicked).count(), clicks);
    assert!(training.iter().all(|row| row.known_watermark < Some(row.decided_at) && row.known_events >= 100));

    // Another platform, under the same key.
    let (key, other) = (folder.join("keys/subject.key"), dir.path().join("other"));
    let (lake, key, target) = (lake.to_str().unwrap(), key.to_str().unwrap(), other.to_str().unwrap());
    let (code, _, stderr) = run(&["import", lake, "--from", "parquet", "--state", target]);
    assert!(code == 64 && stderr.contains("--subject-key"), "{code} {stderr}");
    let (code, stdout, _) = run(&["import", lake, "--from", "parquet", "--dry-run", "--json"]);
    let dry: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &dry["events"], &dry["rejected"]), (0, &json!(history + first + second), &json!({})));
    let (code, _, stderr) = run(&["import", lake, "--from", "parquet", "--state", target, "--subject-key", key]);
    assert_eq!(code, 0, "{stderr}");
    let (code, _, stderr) = run(&["import", lake, "--from", "parquet", "--state", target, "--subject-key", key]);
    assert!(code == 64 && stderr.contains("filled already"), "{code} {stderr}");

    let subject = SubjectKey::load(key.as_ref()).unwrap();
    let uids: Vec<_> = (0..USERS).map(|n| subject.uid(&format!("u{n}"))).collect();
    let copy = Platform::spawn(&other, &[]).unwrap();
    // A page of each, and the consumers have come to the end of the log.
    for n in 0..VISITORS {
        assert_eq!(copy.edge.page(&format!("u{n}")).await.items().len(), 10);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(copy.interrupt().success());
    let ((before, evidence), (after, none)) = (states(&folder, &uids).await, states(&other, &uids).await);
    for (before, after) in before.into_iter().zip(after) {
        assert!(!before.window.is_empty());
        assert_eq!(
            (before.window, before.attributes, before.attributes_at, before.watermark),
            (after.window, after.attributes, after.attributes_at, after.watermark)
        );
    }
    assert!(evidence > 10 && none == 0, "imported history moves no posterior: {evidence} {none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_visitor_leaves_the_lake_with_the_next_export() {
    let dir = state();
    let (folder, lake) = (dir.path().join("state"), dir.path().join("lake"));
    let platform = Platform::start(&dir, &[]);
    visit(&platform, 24, "a").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    export(&lake, &["--edge", &platform.edge.address]);
    let gone = SubjectKey::load(&folder.join("keys/subject.key")).unwrap().uid("u3");
    let personal = [Table::Events, Table::Users, Table::Impressions, Table::Training];
    let count = |keep: bool| {
        let lake = Lake::open(&lake).unwrap();
        personal.map(|table| rows(&lake, table).iter().filter(|row| (uid_in(row) == gone) != keep).count())
    };
    let (theirs, others) = (count(false), count(true));
    assert!(theirs.iter().all(|&rows| rows > 0), "{theirs:?}");
    let files = |lake: &Path| {
        Lake::open(lake).unwrap().manifest().parts().map(|part| lake.join(&part.file)).collect::<Vec<_>>()
    };
    let before = files(&lake);

    assert!(platform.admin.delete("/v1/users/u3").await.status < 300);
    let report = export(&lake, &["--edge", &platform.edge.address]);
    assert_eq!(count(false), [0; 4]);
    assert_eq!(count(true), others, "nobody else's rows went");
    for (table, rows) in personal.iter().zip(theirs) {
        assert_eq!(report[table.as_str()]["removed_rows"], rows, "{table}");
    }
    // The files that held them are no more, under whatever name.
    let after = files(&lake);
    let replaced: Vec<_> = before.iter().filter(|file| !after.contains(file)).collect();
    assert!(replaced.len() >= 4 && replaced.iter().all(|file| !file.exists()), "{replaced:?}");
    assert!(platform.interrupt().success());

    // A lake that was never told is no different.
    let fresh = dir.path().join("fresh");
    let report = export(&fresh, &["--state", folder.to_str().unwrap()]);
    let read = Lake::open(&fresh).unwrap();
    assert!(personal.iter().all(|&table| rows(&read, table).iter().all(|row| uid_in(row) != gone)));
    assert_eq!(report["events"]["total_rows"], others[0]);
}

#[test]
fn mistakes_are_one_line_with_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(path("empty")).unwrap();
    std::fs::create_dir(path("damaged")).unwrap();
    std::fs::write(path("damaged/manifest.json"), "{\"format\":\"attune lake\",\"schema_version\":7}").unwrap();
    for (args, code, wanted) in [
        (vec!["import", &path("empty"), "--from", "parquet", "--dry-run"], 65, "manifest.json"),
        (vec!["import", &path("damaged"), "--from", "parquet", "--dry-run"], 65, "schema version 7"),
        (vec!["import", &path("empty"), "--from", "csv", "--state", &path("s")], 64, "--state"),
        (vec!["export", "--to", &path("l"), "--state", &path("empty")], 65, "not a state folder"),
        (vec!["export", "--to", &path("l"), "--edge", "http://127.0.0.1:9"], 75, "127.0.0.1:9"),
        (vec!["export", "--to", &path("l"), "--since", "2026-01-29T10", "--until", "2026-01-29T10"], 64, "--until"),
    ] {
        let (found, stdout, stderr) = run(&args);
        assert!(found == code && stderr.contains(wanted), "{args:?}: {found} {stderr}");
        assert!(stdout.is_empty() && stderr.lines().count() == 1, "{args:?}: {stderr}");
    }
}
