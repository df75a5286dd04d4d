//! What visitors of a real platform were shown and did is what its business metrics say, also after it was killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;

use platform::*;
use serde_json::json;
use std::time::{Duration, Instant};

const SETTINGS: &str = "[embedder.insight]\nevery = \"200ms\"\ncheckpoint_every = \"300ms\"\nlateness = \"100ms\"\nsample_one_in = 1\n\n[edge.experiment]\nholdout = 0.3\n";
const SOURCES: [&str; 2] = ["personalized", "baseline"];

/// What was shown and done, by source.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Told {
    impressions: [u64; 2],
    clicks: [u64; 2],
    conversions: [u64; 2],
    dwell: [f64; 2],
}

/// Pages and what is done about them, some of it told twice.
async fn visit(platform: &Platform, pages: u32, tag: &str, rng: &mut Rng, told: &mut Told) {
    for n in 0..pages {
        let user = format!("u{}", rng.next(USERS.into()));
        let page = platform.edge.page(&user).await.json();
        let source = usize::from(page["variant"] == "holdout");
        assert_eq!(page["source"], SOURCES[source]);
        let mut events = Vec::new();
        let items = page["items"].as_array().unwrap();
        for (slot, item) in items.iter().enumerate() {
            let mut of = |kind: &str, value: Option<f64>| {
                let id = format!("{tag}-{n}-{slot}-{kind}");
                let mut event = event(&id, kind, &user, item["item_id"].as_str().unwrap());
                event["request_id"] = page["request_id"].clone();
                // What the client says of the slot is not asked.
                event["position"] = json!(9 - slot);
                if let Some(value) = value {
                    event["value"] = json!(value);
                }
                events.push(event);
            };
            of("impression", None);
            told.impressions[source] += 1;
            if rng.next(5 + 5 * source as u64) == 0 {
                of("click", None);
                of("dwell", Some(3.5));
                told.clicks[source] += 1;
                told.dwell[source] += 3.5;
                if rng.next(4) == 0 {
                    of("conversion", Some(199.0));
                    told.conversions[source] += 1;
                }
            }
        }
        let again = if n.is_multiple_of(7) { 2 } else { 1 };
        for _ in 0..again {
            let receipt = platform.edge.post("/v1/feedback", &json!({"events": events})).await;
            assert_eq!(receipt.status, 202, "{}", receipt.text());
        }
    }
}

fn value(metrics: &str, series: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?.parse().ok()
}

fn counted(metrics: &str) -> Option<Told> {
    let of = |name: &str| {
        let [a, b] = SOURCES.map(|source| value(metrics, &format!("{name}{{source=\"{source}\"}}")));
        Some([a?, b?])
    };
    let whole = |name: &str| Some(of(name)?.map(|value| value as u64));
    Some(Told {
        impressions: whole("personalization_impressions_total")?,
        clicks: whole("personalization_clicks_total")?,
        conversions: whole("personalization_conversions_total")?,
        dwell: of("personalization_engagement_seconds_total")?,
    })
}

async fn until_told(site: &Site, told: &Told) -> String {
    let begun = Instant::now();
    loop {
        let metrics = site.get("/metrics").await.text();
        let counted = counted(&metrics);
        if counted.as_ref() == Some(told) {
            return metrics;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{counted:?} instead of {told:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_the_stream_tell_what_was_shown_and_done() {
    let dir = state();
    let settings = dir.path().join("attune.toml");
    std::fs::write(&settings, SETTINGS).unwrap();
    let settings = ["--config", settings.to_str().unwrap()];
    let (mut rng, mut told) = (Rng::of_run(), Told::default());

    let platform = Platform::start(&dir, &settings);
    visit(&platform, 260, "a", &mut rng, &mut told).await;
    until_told(&platform.admin, &told).await;
    let ctr = |source: usize| told.clicks[source] as f64 / told.impressions[source] as f64;
    println!("CTR {:.3} and {:.3}: {told:?}", ctr(0), ctr(1));
    let shown = told.impressions[0] as f64;
    let model = format!("model_version=\"{}\"", platform.ready["model_version"].as_str().unwrap());
    let expected = [
        ("personalization_active_users", 40.0, f64::from(USERS)),
        ("personalization_catalog_coverage_ratio", 0.05, 1.0),
        ("personalization_diversity_score", 0.3, 1.0),
        ("personalization_novelty_ratio", 0.05, 1.0),
        ("personalization_exploration_rate{algorithm=\"random\"}", 0.001, 0.1),
        ("personalization_lift_ratio_samples", 100.0, 1e6),
        ("personalization_freshness_ratio_samples", shown, shown),
        ("personalization_serendipity_ratio_samples", 0.0, 0.0),
        ("personalization_return_ratio_samples", 0.0, 0.0),
        ("bandit_cumulative_regret_samples", 1.0, 1e3),
        ("bandit_believed_regret", -1.0, 1.0),
        ("bandit_exploration_rate", 0.01, 0.3),
        ("bandit_arm_pull_distribution_gini", 0.05, 1.0),
        ("bandit_posterior_uncertainty{item_segment=\"jazz\"}", 1e-4, 0.5),
        ("bandit_cold_item_coverage_ratio_samples", 0.0, 0.0),
        ("embedding_coverage_ratio_samples", 200.0, 260.0),
        ("embedding_staleness_rate_samples", 150.0, 260.0),
        ("embedding_drift_score_samples", 150.0, 260.0),
        ("embedding_freshness_seconds_count{user_segment=\"power\"}", 100.0, 260.0),
        ("model_recall_score_samples{k=\"100\",MODEL}", 1.0, 1e3),
        ("model_calibration_error_samples{MODEL}", 100.0, shown),
        ("model_ndcg_score_samples{MODEL}", 0.0, shown),
        ("model_confidence_score_count{MODEL}", 50.0, shown),
        ("model_feature_drift_score{feature_name=\"popularity\"}", 0.0, 50.0),
        ("streaming_state_size_bytes", 1e3, 1e9),
        ("streaming_checkpoint_duration_seconds_count", 1.0, 1e3),
    ];
    let begun = Instant::now();
    loop {
        let metrics = platform.admin.get("/metrics").await.text();
        let missing = expected.iter().find(|(series, low, high)| {
            let found = value(&metrics, &series.replace("MODEL", &model));
            !found.is_some_and(|found| (*low..=*high).contains(&found))
        });
        let Some((series, ..)) = missing else { break };
        let found = value(&metrics, &series.replace("MODEL", &model));
        assert!(begun.elapsed() < Duration::from_secs(60), "{series}: {found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    platform.kill();

    // Each service a process of its own goes on from the same checkpoint.
    let mut separate = settings.to_vec();
    separate.push("--separate");
    let platform = Platform::start(&dir, &separate);
    visit(&platform, 60, "b", &mut rng, &mut told).await;
    let embedder = Site::new(platform.ready["admin"]["embedder"].as_str().unwrap());
    until_told(&embedder, &told).await;
    assert!(platform.interrupt().success());
}
