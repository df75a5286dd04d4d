//! Every logged decision comes out the same when it is run again, and what was tampered with is named.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "support/platform.rs"]
mod platform;

use attune::replay::{Found, MaterialsCache, Source, check};
use attune_decision::{DecisionRecord, Path, Posteriors, SourceKind, Stage, encode_record};
use attune_domain::{ItemIx, PosteriorCounts, PosteriorSnapshot, RequestId};
use platform::*;
use serde_json::{Value, json};
use std::fs;

const TAMPERED_BYTES: usize = 2_048;

/// Pages for many visitors, known and new, with clicks in between; a third of them need the origin.
async fn visit(platform: &Platform, pages: u32, tag: &str) {
    for n in 0..pages {
        let user = if n % 17 == 0 { format!("new-{tag}-{n}") } else { format!("u{}", n % USERS) };
        let mut body = json!({"user_id": user, "limit": 1 + n % 20});
        if n % 3 == 0 {
            body["page_type"] = json!("product");
            body["item_id"] = json!(item(n % ITEMS));
        }
        let answer = platform.edge.post("/v1/personalize", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        if n % 4 == 0 {
            let page = answer.json();
            let mut click = event(&format!("{tag}-{n}"), "click", &user, page["items"][0]["item_id"].as_str().unwrap());
            click["request_id"] = page["request_id"].clone();
            click["position"] = json!(0);
            let receipt = platform.edge.post("/v1/feedback", &json!({"events": [click]})).await;
            assert_eq!(receipt.status, 202, "{}", receipt.text());
        }
    }
}

/// Outcomes of a replay, by name.
fn replayed(arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = attune().arg("replay").args(arguments).arg("--json").output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code(), lines)
}

fn all_the_same(arguments: &[&str], count: usize) {
    // The last records of a running platform may still be on their way to the log.
    let (code, lines) = (0..50)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            replayed(arguments)
        })
        .find(|(_, lines)| lines.len() >= count)
        .expect("every decision reaches the log");
    let other: Vec<_> = lines.iter().filter(|line| line["outcome"] != "same").collect();
    assert!(
        other.is_empty(),
        "{} of {} are not the same: {:?}",
        other.len(),
        lines.len(),
        &other[..other.len().min(3)]
    );
    assert_eq!((code, lines.len()), (Some(0), count));
    for path in ["hit", "miss"] {
        assert!(lines.iter().any(|line| line["path"] == path), "no {path} among them");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_decisions_come_out_the_same() {
    let dir = state();
    let platform = Platform::start(&dir, &[]);
    visit(&platform, 700, "a").await;
    all_the_same(&["--last", "700", "--edge", &platform.edge.address], 700);
    assert!(platform.interrupt().success());

    let platform = Platform::start(&dir, &["--separate"]);
    visit(&platform, 300, "b").await;
    all_the_same(&["--last", "1000", "--edge", &platform.edge.address], 1000);
    assert!(platform.interrupt().success());
    all_the_same(&["--last", "1000", "--state", dir.path().join("state").to_str().unwrap()], 1000);
}

/// The newest decision that took this path and suits.
async fn find(source: &Source, path: Path, suits: impl Fn(&DecisionRecord) -> bool) -> (RequestId, DecisionRecord) {
    for id in source.recent(500).await.unwrap() {
        if let Found::Record(record) = source.decision(id).await.unwrap()
            && Path::from_code(record.path) == Some(path)
            && suits(&record)
        {
            return (id, *record);
        }
    }
    panic!("no such decision");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_is_named() {
    let dir = state();
    let folder = dir.path().join("state");
    let settings = dir.path().join("settings.toml");
    // u1 is to get pages of its own.
    fs::write(&settings, "[edge.experiment]\nholdout = 0.0\n").unwrap();
    let platform = Platform::start(&dir, &["--config", settings.to_str().unwrap()]);
    visit(&platform, 120, "c").await;
    for _ in 0..3 {
        let answer = platform.edge.post("/v1/personalize", &json!({"user_id": "u1", "limit": 100})).await;
        assert_eq!(answer.items().len(), 100);
    }
    assert!(platform.interrupt().success());

    let (hit, miss) = {
        let source = Source::of_folder(&folder).await.unwrap();
        let mut cache = MaterialsCache::default();
        let (hit_id, hit) = find(&source, Path::Hit, |r| r.items.len() > 3).await;
        let (miss_id, miss) = find(&source, Path::Miss, |r| r.items.len() > 3 && r.sources.len() > 3).await;
        // A hit keeps to its 512 bytes, scores included.
        for (slots, scores) in [(20, 40), (100, 64)] {
            let (_, full) = find(&source, Path::Hit, |r| r.items.len() == slots).await;
            let bytes = encode_record(&full).len();
            let without = encode_record(&DecisionRecord { scores: Default::default(), ..full.clone() }).len();
            println!("a hit of {slots}: {bytes} B, {without} B without its scores");
            assert!(full.scores.len() == scores && bytes <= 512, "{bytes} B");
        }
        let mut states = 0;
        for record in [&hit, &miss] {
            let mut materials = source.materials(record, &mut cache).await.unwrap().unwrap();
            assert_eq!(check(record, &materials), None);
            let stage = |record: &DecisionRecord, materials: &_| check(record, materials).map(|found| found.stage);

            let mut other = record.clone();
            other.seed ^= 1;
            assert_eq!(stage(&other, &materials), Some(Stage::Sample), "another seed");

            let item = ItemIx(record.items[1]);
            let counts = vec![PosteriorCounts { item, impressions: 5.0, rewards: 2.0 }];
            let snapshot = PosteriorSnapshot { counts };
            let kept = std::mem::replace(&mut materials.posteriors, Posteriors::new(&snapshot, [0; 16]));
            assert_eq!(stage(record, &materials), Some(Stage::Sample), "another posterior");
            materials.posteriors = kept;

            if !materials.state.window.is_empty() {
                materials.state.window = Default::default();
                assert_eq!(stage(record, &materials), Some(Stage::Context), "another state");
                states += 1;
            }
        }
        assert!(states > 0, "both visitors were new");
        let materials = source.materials(&miss, &mut cache).await.unwrap().unwrap();
        for (n, answer) in miss.sources.iter().enumerate().filter(|(_, s)| s.outcome == 0 && !s.items.is_empty()) {
            let mut other = miss.clone();
            other.sources[n].outcome = 2;
            let expected = match SourceKind::from_code(answer.source) {
                Some(SourceKind::Neighbours) => Stage::AnnSearch,
                _ => Stage::Candidates,
            };
            let found = check(&other, &materials).map(|found| found.stage);
            // A source whose items the others brought too changes nothing.
            assert!(found == Some(expected) || (found.is_none() && expected == Stage::Candidates), "{found:?}");
            let mut other = miss.clone();
            other.sources[n].items.swap(0, answer.items.len() - 1);
            let found = check(&other, &materials).map(|found| found.stage);
            assert!(found.is_none() || found == Some(Stage::Candidates), "{found:?}");
        }
        let hit_materials = source.materials(&hit, &mut cache).await.unwrap().unwrap();
        let mut fewer = hit.clone();
        fewer.items.pop();
        assert_eq!(check(&fewer, &hit_materials).map(|found| found.stage), Some(Stage::Slate), "another answer");
        (hit_id, miss_id)
    };

    // Weights in the middle of a section's file, enough of them that what a decision used is among them.
    let bundle = fs::read_dir(folder.join("bundles")).unwrap().map(|e| e.unwrap().path()).find(|p| p.is_dir()).unwrap();
    for (section, id, expected) in
        [("ranker.safetensors", miss, "ranking.score"), ("tower.safetensors", hit, "context.build")]
    {
        let path = bundle.join(section);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        // The last bits of each float: too little to see in a score, enough for a digest.
        for float in bad[middle / 4 * 4..][..TAMPERED_BYTES.min(good.len() / 4)].chunks_exact_mut(4) {
            float[0] ^= 0xff;
        }
        fs::write(&path, &bad).unwrap();
        let (code, lines) = replayed(&[&id.to_string(), "--state", folder.to_str().unwrap()]);
        assert_eq!(lines[0]["outcome"], "differs", "{section}: {lines:?}");
        assert_eq!(lines[0]["stage"], expected, "{section}: {lines:?}");
        assert_eq!(code, Some(1));
        fs::write(&path, &good).unwrap();
    }
    let (code, lines) = replayed(&[&"0".repeat(32), "--state", folder.to_str().unwrap()]);
    assert_eq!((code, lines[0]["outcome"].as_str()), (Some(65), Some("unknown")));
}
