//! A consumer that stands still and keeps its partitions makes embeddings stale, and the alert's expression true, as the
//! real Prometheus of `up --observe` evaluates it. It takes six minutes, because stale is what is older than five:
//! `cargo xtask faults --drills` runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/engines.rs"]
mod engines;
#[path = "support/platform.rs"]
mod platform;

use engines::Engines;
use futures::stream::{self, StreamExt as _};
use platform::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const VISITORS: u32 = 1_300;
const AT_A_TIME: usize = 8;
/// An embedding is stale after 300 s.
const WAIT: Duration = Duration::from_secs(305);
const PATIENCE: Duration = Duration::from_secs(90);
/// The alert's expression, critical and warning; a test holds it against the kit.
const STALE: &str = "embedding_staleness_rate > 0.15 and embedding_staleness_rate_samples >= 1000";
const INSIGHT: &str = "\n[embedder.insight]\nsample_one_in = 1\nevery = \"1s\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_stands_still_makes_embeddings_stale() {
    let name = "a_consumer_that_stands_still_makes_embeddings_stale";
    let wanted = std::env::var_os("ATTUNE_DRILLS").unwrap_or_default().into_string().unwrap();
    if wanted != "all" && !wanted.split(',').any(|wanted| wanted == "stale-embeddings") {
        eprintln!("skipped: {name}: ATTUNE_DRILLS does not name stale-embeddings (cargo xtask faults --drills)");
        return;
    }
    let Some(engines) = Engines::start(name) else { return };
    let (dir, mut arguments) = engines.filled();
    let config = &arguments[1];
    let text = std::fs::read_to_string(config).unwrap();
    std::fs::write(config, text + INSIGHT).unwrap();
    arguments.extend(["--separate".to_owned(), "--observe".to_owned()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let platform = Platform::start(&dir, &arguments);
    let Some(prometheus) = platform.ready["observe"]["prometheus"].as_str().map(Site::new) else {
        eprintln!("skipped: {name}: Prometheus is not installed");
        return;
    };

    // A second consumer, which a broker believes alive for longer than this test takes.
    let own = [("own.checkpoints", ""), ("insight.folder", ""), ("engines.kafka.session_timeout", "20m")];
    let second = platform.second("embedder", &own).unwrap();
    for round in ["a", "b"] {
        clicks(&platform, round).await;
        // Until each consumer has its partitions, and has applied its part.
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert!(ask(&prometheus, STALE).await.is_empty());
    signal(second.pid(), libc::SIGSTOP);
    clicks(&platform, "c").await;
    tokio::time::sleep(WAIT).await;
    pages(&platform).await;

    let begun = Instant::now();
    let stale = loop {
        if let Some(stale) = ask(&prometheus, STALE).await.first().cloned() {
            break stale;
        }
        let rate = ask(&prometheus, "embedding_staleness_rate").await;
        let samples = ask(&prometheus, "embedding_staleness_rate_samples").await;
        assert!(begun.elapsed() < PATIENCE, "{rate:?} of {samples:?} embeddings are stale");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    println!("{stale}");
    signal(second.pid(), libc::SIGCONT);
    drop(second);
    assert!(platform.interrupt().success());
}

#[test]
fn the_expression_is_the_rules() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../observability/prometheus/rules/warning.yml");
    let rules = std::fs::read_to_string(path).unwrap();
    let rules = rules.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(rules.contains(STALE));
}

async fn ask(prometheus: &Site, expression: &str) -> Vec<Value> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = prometheus.get(&format!("/api/v1/query?query={encoded}")).await;
    answer.json()["data"]["result"].as_array().unwrap().clone()
}

async fn clicks(platform: &Platform, round: &str) {
    let click = |n: u32| async move {
        let user = format!("stale-{n}");
        let events = json!({"events": [event(&format!("{round}-{n}"), "click", &user, &item(n % ITEMS))]});
        let answer = platform.edge.post("/v1/feedback", &events).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    };
    stream::iter(0..VISITORS).map(click).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

async fn pages(platform: &Platform) {
    let page = |n: u32| async move {
        let user = format!("stale-{n}");
        let page = platform.edge.page(&user).await.json();
        let mut seen = event(&format!("seen-{n}"), "impression", &user, page["items"][0]["item_id"].as_str().unwrap());
        seen["request_id"] = page["request_id"].clone();
        let answer = platform.edge.post("/v1/feedback", &json!({"events": [seen]})).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    };
    stream::iter(0..VISITORS).map(page).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}
