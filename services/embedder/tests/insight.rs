//! What is exported of a stream whose truth is known, and that nothing counts twice when the process is killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/bed.rs"]
mod bed;

use arc_swap::ArcSwap;
use attune_domain::{EventKind, ItemIx, ItemUpdate, RequestId, SlotKind, Variant};
use attune_embedder::InsightConfig;
use attune_embedder::insight::{InsightDeps, run};
use attune_proto::state::v1 as wire;
use attune_serving::Serving;
use attune_storage::Topic;
use attune_testkit::telemetry::{Recorded, recorded};
use attune_testkit::world::{ITEMS, NOW, TASTES, World, catalogue, item, stated_world, world};
use bed::{Bed, uid, user_record};
use bytes::Bytes;
use prost::Message as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const SLOTS: u32 = 10;
const REQUESTS: u32 = 300;
const VISITORS: u32 = 60;
const MODEL: u64 = 0x1234;

/// What the stream will have told.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Truth {
    shown: [u64; 2],
    clicked: [u64; 2],
    bought: [u64; 2],
    revenue: [u64; 2],
    dwelt: [f64; 2],
    explored: u64,
    uniform: u64,
    rewards: [u64; 2],
}

struct Stream {
    events: Vec<wire::Event>,
    truth: Truth,
    next: u32,
}

impl Stream {
    fn new() -> Self {
        Self { events: Vec::new(), truth: Truth::default(), next: 0 }
    }

    fn event(&mut self, visitor: u32, request: u32, slot: u32, kind: EventKind, value: f32) -> wire::Event {
        let mut random = [0; 10];
        random[..4].copy_from_slice(&request.to_be_bytes());
        self.next += 1;
        let item = (request * 7 + slot * 11) % ITEMS as u32;
        let uniform = (request + slot).is_multiple_of(25);
        let explore = (request + slot) % 10 == 3;
        let kind_of_slot = match (uniform, explore) {
            (true, _) => SlotKind::Uniform,
            (false, true) => SlotKind::Explore,
            _ => SlotKind::Exploit,
        };
        let holdout = visitor.is_multiple_of(4);
        wire::Event {
            event_id: format!("{visitor}:{}", self.next),
            kind: kind.code().into(),
            item_id: format!("i{item}"),
            item,
            request_id: Bytes::copy_from_slice(&RequestId::new(NOW + i64::from(request), random).0),
            position: Some(slot),
            occurred_at: NOW + i64::from(request),
            accepted_at: NOW + i64::from(request) + 50,
            value,
            imported: false,
            in_decision: true,
            decided: Some(wire::Decided {
                position: slot,
                ideal_position: slot,
                slot: kind_of_slot.code().into(),
                variant: if holdout { Variant::Holdout } else { Variant::Treatment }.code().into(),
                level: 0,
                model: MODEL,
                propensity: uniform.then_some(0.02 / 300.0),
                score: (!holdout).then_some(0.4),
            }),
        }
    }

    /// A page, what was done about it, and what must not count.
    fn page(&mut self, request: u32) {
        let visitor = request % VISITORS;
        let holdout = usize::from(visitor.is_multiple_of(4));
        for slot in 0..SLOTS {
            let (uniform, explore) = ((request + slot).is_multiple_of(25), (request + slot) % 10 == 3);
            let shown = self.event(visitor, request, slot, EventKind::Impression, 1.0);
            self.truth.shown[holdout] += 1;
            self.truth.uniform += u64::from(holdout == 0 && uniform);
            self.truth.explored += u64::from(holdout == 0 && explore && !uniform);
            self.events.push(shown.clone());
            // Another event of the same impression, imported history, and an item that was not in the decision.
            match slot {
                0 => self.events.push(wire::Event { event_id: format!("{visitor}:again{request}"), ..shown }),
                1 => self.events.push(wire::Event {
                    event_id: format!("{visitor}:old{request}"),
                    imported: true,
                    kind: EventKind::Click.code().into(),
                    ..shown
                }),
                2 => self.events.push(wire::Event {
                    event_id: format!("{visitor}:stray{request}"),
                    in_decision: false,
                    decided: None,
                    item: (request * 7 + 5) % ITEMS as u32,
                    kind: EventKind::Click.code().into(),
                    ..shown
                }),
                _ => {}
            }
            if (request * 3 + slot * 5).is_multiple_of(8 + 8 * holdout as u32) {
                let click = self.event(visitor, request, slot, EventKind::Click, 1.0);
                let dwell = self.event(visitor, request, slot, EventKind::Dwell, 12.5);
                self.truth.clicked[holdout] += 1;
                self.truth.dwelt[holdout] += 12.5;
                self.events.extend([click, dwell]);
                if holdout == 0 {
                    self.truth.rewards[usize::from(!(uniform || explore))] += 1;
                }
                if request.is_multiple_of(3) {
                    let bought = self.event(visitor, request, slot, EventKind::Conversion, 250.0);
                    self.truth.bought[holdout] += 1;
                    self.truth.revenue[holdout] += 250;
                    self.events.push(bought);
                }
            }
        }
    }
}

async fn write(bed: &Bed, events: &[wire::Event]) {
    let record = |event: &wire::Event| {
        let user: u32 = event.event_id.split(':').next().unwrap().parse().unwrap();
        let record = bed::record(user_record(event.clone()));
        (attune_storage::Record { key: Bytes::copy_from_slice(&uid(user).0), ..record }, None)
    };
    bed.log.append(Topic::UserEvents, events.iter().map(record).collect()).await.unwrap();
}

async fn with_items() -> Bed {
    let bed = Bed::memory();
    let update = |ix: usize| ItemUpdate { ix: ItemIx(ix as u32), item: item(ix) };
    let updates = (0..ITEMS).map(|ix| wire::ItemUpdate::from(&update(ix)).encode_to_vec().into());
    let updates = updates.map(|value| (bed::record(value), None)).collect();
    bed.log.append(Topic::ItemUpdates, updates).await.unwrap();
    bed
}

fn start(
    bed: &Bed,
    config: &InsightConfig,
    telemetry: &Recorded,
    world: Option<&World>,
) -> (JoinHandle<()>, watch::Sender<bool>) {
    let serving = |world: &World| {
        Arc::new(ArcSwap::from_pointee(Serving::new(world.bundle.clone(), catalogue((0..ITEMS).map(item))).unwrap()))
    };
    let deps = InsightDeps {
        log: bed.log.clone(),
        store: bed.store.clone(),
        serving: world.map(serving),
        telemetry: telemetry.telemetry.clone(),
        clock: Arc::new(|| NOW + 60_000),
    };
    let (stop, stopping) = watch::channel(false);
    (tokio::spawn(run(config.clone(), deps, stopping)), stop)
}

fn config(folder: &Path) -> InsightConfig {
    InsightConfig {
        folder: folder.to_owned(),
        every: attune_config::HumanDuration::millis(20),
        checkpoint_every: attune_config::HumanDuration::millis(30),
        ..InsightConfig::default()
    }
}

fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

/// Waits until the counter is there, and for the report that has it all.
async fn until(telemetry: &Recorded, series: &str, expected: f64) -> String {
    let begun = Instant::now();
    loop {
        let metrics = telemetry.metrics();
        if value(&metrics, series) == Some(expected) {
            tokio::time::sleep(Duration::from_millis(60)).await;
            return telemetry.metrics();
        }
        let found = value(&metrics, series);
        assert!(begun.elapsed() < Duration::from_secs(30), "{series} is {found:?}, not {expected}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn of_source(name: &str, source: usize) -> String {
    format!("{name}{{source=\"{}\"}}", ["personalized", "baseline"][source])
}

fn check_counters(metrics: &str, truth: &Truth) {
    for source in [0, 1] {
        for (name, expected) in [
            ("personalization_impressions_total", truth.shown[source] as f64),
            ("personalization_clicks_total", truth.clicked[source] as f64),
            ("personalization_conversions_total", truth.bought[source] as f64),
            ("personalization_revenue_minor_units_total", truth.revenue[source] as f64),
            ("personalization_engagement_seconds_total", truth.dwelt[source]),
        ] {
            let series = of_source(name, source);
            assert_eq!(value(metrics, &series), Some(expected), "{series}");
        }
    }
    let rewards = ["exploration", "exploitation"].map(|way| format!("personalization_{way}_reward_total"));
    for (series, expected) in rewards.iter().zip(truth.rewards) {
        assert_eq!(value(metrics, series), Some(expected as f64), "{series}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_tells_the_truth_of_the_stream() {
    let bed = with_items().await;
    let mut stream = Stream::new();
    (0..REQUESTS).for_each(|request| stream.page(request));
    write(&bed, &stream.events).await;
    let folder = tempfile::tempdir().unwrap();
    let telemetry = recorded("embedder");
    let (running, stop) = start(&bed, &config(folder.path()), &telemetry, Some(world()));
    let truth = stream.truth;
    let metrics = until(&telemetry, &of_source("personalization_impressions_total", 0), truth.shown[0] as f64).await;
    check_counters(&metrics, &truth);

    let shown = truth.shown[0] as f64;
    let near = |series: &str, expected: f64, within: f64| {
        let found = value(&metrics, series);
        assert!(found.is_some_and(|found| (found - expected).abs() <= within), "{series}: {found:?} for {expected}");
    };
    near("personalization_exploration_rate{algorithm=\"thompson\"}", truth.explored as f64 / shown, 1e-9);
    near("personalization_exploration_rate{algorithm=\"random\"}", truth.uniform as f64 / shown, 1e-9);
    near("bandit_exploration_rate", (truth.explored + truth.uniform) as f64 / shown, 1e-9);
    near("personalization_active_users", f64::from(VISITORS), 0.0);
    near("personalization_diversity_score", 1.0 - 1.0 / TASTES.len() as f64, 0.02);
    near("personalization_lift_ratio_samples", 0.0, 1e9);
    assert_eq!(value(&metrics, "personalization_lift_ratio"), None, "too few to tell");
    for series in [
        "personalization_catalog_coverage_ratio",
        "personalization_novelty_ratio",
        "personalization_freshness_ratio",
        "bandit_arm_pull_distribution_gini",
        "bandit_posterior_uncertainty{item_segment=\"comedy\"}",
        "streaming_state_size_bytes",
    ] {
        assert!(value(&metrics, series).is_some_and(|found| found > 0.0), "{series}");
    }
    let model = format!("{{model_version=\"{MODEL:016x}\"}}");
    near(&format!("model_calibration_error_samples{model}"), shown, 0.0);
    let top = format!("model_confidence_score_count{model}");
    // The first slot's impression came twice.
    near(&top, 2.0 * shown / f64::from(SLOTS), 0.0);
    stop.send_replace(true);
    running.await.unwrap();
    let saved = value(&telemetry.metrics(), "streaming_checkpoint_duration_seconds_count");
    assert!(saved.is_some_and(|saved| saved >= 1.0), "{saved:?}");
}

/// Pages of visitors whose states are those of the first `applied` pages.
async fn embeddings_read(applied: u32) -> String {
    let bed = with_items().await;
    let mut stream = Stream::new();
    (0..applied).for_each(|request| stream.page(request));
    write(&bed, &stream.events).await;
    let bed = bed.caught_up().await;
    let before = stream.events.len();
    (applied..REQUESTS).for_each(|request| stream.page(request));
    write(&bed, &stream.events[before..]).await;
    let folder = tempfile::tempdir().unwrap();
    let telemetry = recorded("embedder");
    let config = InsightConfig { sample_one_in: 1, ..config(folder.path()) };
    let (running, stop) = start(&bed, &config, &telemetry, Some(world()));
    let series = of_source("personalization_impressions_total", 0);
    let metrics = until(&telemetry, &series, stream.truth.shown[0] as f64).await;
    stop.send_replace(true);
    running.await.unwrap();
    metrics
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embeddings_and_features_are_looked_at_as_pages_read_them() {
    let metrics = embeddings_read(REQUESTS).await;
    let read = |series: &str| value(&metrics, series).unwrap_or_else(|| panic!("{series}"));
    assert_eq!(read("embedding_coverage_ratio_samples"), f64::from(REQUESTS));
    let age = |metrics: &str, what: &str| {
        let of = |segment: &str| {
            value(metrics, &format!("embedding_freshness_seconds_{what}{{user_segment=\"{segment}\"}}")).unwrap_or(0.0)
        };
        ["power", "active", "casual"].map(of).iter().sum::<f64>()
    };
    let found = age(&metrics, "count");
    assert!(found > 0.5 * f64::from(REQUESTS) && found < f64::from(REQUESTS), "first pages have none: {found}");
    assert_eq!(age(&metrics, "sum"), 0.0, "nothing lacked");
    assert!(read("embedding_drift_score_samples") > 0.0);
    let drift = "{feature_name=\"popularity\"}";
    assert_eq!(read(&format!("model_feature_drift_score_samples{drift}")), f64::from(REQUESTS * SLOTS + REQUESTS));
    assert!(read(&format!("model_feature_drift_score{drift}")).is_finite());

    // A consumer that stopped half-way: each page of the second half lacks what came with the visitor's page before.
    let behind = embeddings_read(REQUESTS / 2).await;
    // That was a round of all visitors ago, and accepted 50 ms after it was shown.
    let lacked = f64::from(REQUESTS / 2 - VISITORS) * f64::from(VISITORS - 50) / 1e3;
    assert!((age(&behind, "sum") - lacked).abs() < 1e-6, "{} for {lacked}", age(&behind, "sum"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_age_of_what_the_shop_states_is_told_of_each_attribute() {
    const HOUR: i64 = 3_600_000;
    let bed = with_items().await;
    let stated = |visitor: u32| match visitor % 3 {
        0 => Some(("old", 2 * HOUR)),
        // The model does not know the word; it was stated all the same.
        1 => Some(("ageless", 40 * HOUR)),
        _ => None,
    };
    for visitor in 0..VISITORS {
        match stated(visitor) {
            Some((age, ago)) => bed.write_attributes_at(visitor, &[("age", age)], NOW - ago).await,
            None => bed.write_attributes_at(visitor, &[("shoe_size", "43")], NOW).await,
        }
    }
    let mut stream = Stream::new();
    (0..REQUESTS).for_each(|request| stream.page(request));
    write(&bed, &stream.events).await;
    let bed = bed.caught_up().await;
    let folder = tempfile::tempdir().unwrap();
    let telemetry = recorded("embedder");
    let config = InsightConfig { sample_one_in: 1, ..config(folder.path()) };
    let (running, stop) = start(&bed, &config, &telemetry, Some(stated_world()));
    let shown = stream.truth.shown[0] as f64;
    let metrics = until(&telemetry, &of_source("personalization_impressions_total", 0), shown).await;
    stop.send_replace(true);
    running.await.unwrap();
    let ages: Vec<f64> =
        (0..REQUESTS).filter_map(|page| Some((stated(page % VISITORS)?.1 + i64::from(page)) as f64 / 1e3)).collect();
    let read = |what: &str| value(&metrics, &format!("model_feature_age_seconds_{what}{{feature_name=\"user_age\"}}"));
    assert_eq!(read("count"), Some(ages.len() as f64));
    assert!((read("sum").unwrap() - ages.iter().sum::<f64>()).abs() < 1e-3, "{:?}", read("sum"));
    assert!(!metrics.contains("user_shoe_size"), "no model reads it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_counts_twice_or_is_lost() {
    let bed = with_items().await;
    let folder = tempfile::tempdir().unwrap();
    let mut stream = Stream::new();
    let mut written = 0;
    for life in 0..8u64 {
        (0..40).for_each(|n| stream.page(life as u32 * 40 + n));
        write(&bed, &stream.events[written..]).await;
        written = stream.events.len();
        let telemetry = recorded("embedder");
        let (running, _stop) = start(&bed, &config(folder.path()), &telemetry, None);
        tokio::time::sleep(Duration::from_millis(7 * life)).await;
        running.abort();
        assert!(running.await.is_err());
    }
    let telemetry = recorded("embedder");
    let (running, stop) = start(&bed, &config(folder.path()), &telemetry, None);
    let series = of_source("personalization_impressions_total", 0);
    let metrics = until(&telemetry, &series, stream.truth.shown[0] as f64).await;
    check_counters(&metrics, &stream.truth);
    stop.send_replace(true);
    running.await.unwrap();

    // A checkpoint of another build is no reason not to start: it begins anew and counts everything again.
    std::fs::write(folder.path().join("insight.checkpoint"), b"ATTUNEI\xff and more").unwrap();
    let telemetry = recorded("embedder");
    let (running, stop) = start(&bed, &config(folder.path()), &telemetry, None);
    let metrics = until(&telemetry, &series, stream.truth.shown[0] as f64).await;
    check_counters(&metrics, &stream.truth);
    stop.send_replace(true);
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_folder_it_begins_at_the_end() {
    let bed = with_items().await;
    let mut stream = Stream::new();
    stream.page(1);
    write(&bed, &stream.events).await;
    let telemetry = recorded("embedder");
    let (running, stop) = start(&bed, &InsightConfig { folder: "".into(), ..config(Path::new("")) }, &telemetry, None);
    until(&telemetry, &of_source("personalization_impressions_total", 0), 0.0).await;
    let before = stream.events.len();
    stream.page(2);
    write(&bed, &stream.events[before..]).await;
    let mut later = Stream::new();
    later.page(2);
    let metrics =
        until(&telemetry, &of_source("personalization_impressions_total", 0), later.truth.shown[0] as f64).await;
    check_counters(&metrics, &later.truth);
    stop.send_replace(true);
    running.await.unwrap();
}

/// `cargo test --release -p attune-embedder --test insight -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and says nothing about right or wrong"]
async fn what_an_event_costs() {
    let bed = with_items().await;
    let mut stream = Stream::new();
    (0..6_000).for_each(|request| stream.page(request));
    for events in stream.events.chunks(5_000) {
        write(&bed, events).await;
    }
    let bed = bed.caught_up().await;
    for (model, sample_one_in) in [(false, 1), (true, 1_000_000), (true, 8), (true, 1)] {
        let telemetry = recorded("embedder");
        let folder = tempfile::tempdir().unwrap();
        let config = InsightConfig {
            sample_one_in,
            every: attune_config::HumanDuration::millis(50),
            checkpoint_every: attune_config::HumanDuration::secs(60),
            ..config(folder.path())
        };
        let begun = Instant::now();
        let (running, stop) = start(&bed, &config, &telemetry, model.then(world));
        let series = of_source("personalization_impressions_total", 0);
        while value(&telemetry.metrics(), &series) != Some(stream.truth.shown[0] as f64) {
            assert!(begun.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let each = begun.elapsed() / stream.events.len() as u32;
        stop.send_replace(true);
        running.await.unwrap();
        let bytes = std::fs::metadata(folder.path().join("insight.checkpoint")).unwrap().len();
        let memory = value(&telemetry.metrics(), "streaming_state_size_bytes");
        println!(
            "model {model}, one request in {sample_one_in}: {each:?} an event; {bytes} B checkpoint, {memory:?} B"
        );
    }
}
