//! Drift of features and embeddings, recall.

use crate::world::{MINUTE, START, World, assert_covers, assert_near, chance, rng};
use attune_domain::Segment;
use attune_insight::{
    Baselines, Config, EmbeddingRead, FeatureBaseline, FeatureReport, FeatureValue, RecallAt, ShadowSearch,
};
use rand::RngExt as _;
use rand_distr::{Distribution as _, Normal};
use std::time::Duration;

/// A standard normal feature in 20 bins of equal mass, whose bounds are its quantiles.
fn baselines() -> Baselines {
    let mut rng = rng(99);
    let normal = Normal::new(0.0, 1.0).unwrap();
    let mut sample: Vec<f32> = (0..400_000).map(|_| normal.sample(&mut rng) as f32).collect();
    sample.sort_by(f32::total_cmp);
    let bounds = (1..20).map(|bin| sample[bin * sample.len() / 20]).collect();
    let feature = FeatureBaseline { name: "age".into(), bounds, shares: vec![0.05; 20] };
    Baselines { features: vec![feature], embedding: vec![1.0; 32] }
}

fn feature(baselines: &Baselines, seed: u64, n: usize, shift: f64) -> FeatureReport {
    let (mut world, mut rng) = (World::new(Config { baselines: baselines.clone(), ..Config::default() }), rng(seed));
    let normal = Normal::new(shift, 1.0).unwrap();
    for _ in 0..n {
        let value = Some(normal.sample(&mut rng) as f32);
        world.insight.features(START, &[FeatureValue { feature: 0, value, unseen: false }]);
    }
    world.report().features.remove(0)
}

#[test]
fn no_drift_stays_below_the_alert_and_a_shift_is_both_alerts_at_once() {
    let baselines = baselines();
    for seed in 0..50 {
        let still = feature(&baselines, seed, 2_000, 0.0);
        assert!(still.drift.value < 0.03 && still.psi.value < 0.05, "{still:?}");
    }
    let mean = (0..50).map(|seed| feature(&baselines, seed, 2_000, 0.0).drift.value / 50.0).sum();
    assert_near("E[KL] without drift is (B - 1) / 2N", mean, 19.0 / 4_000.0, 0.001);
    let moved = feature(&baselines, 7, 20_000, 0.45);
    println!("a shift of 0.45 sd: KL {:?}, PSI {:?}", moved.drift, moved.psi);
    assert_near("KL", moved.drift.value, 0.099, 0.01);
    assert_near("PSI", moved.psi.value, 0.198, 0.02);
    assert!(moved.drift.low > 0.08 && moved.drift.samples == 20_000);
}

#[test]
fn the_interval_of_drift_covers_the_truth() {
    let baselines = baselines();
    // The shift's divergence over these bins, from a sample that makes its error small.
    let truth = feature(&baselines, 1_000, 2_000_000, 0.45);
    assert_covers("KL, drifted", |seed| (feature(&baselines, seed, 3_000, 0.45).drift, truth.drift.value));
    assert_covers("PSI, drifted", |seed| (feature(&baselines, seed, 3_000, 0.45).psi, truth.psi.value));
    assert_covers("KL, still", |seed| (feature(&baselines, seed, 3_000, 0.0).drift, 0.0));
}

#[test]
fn nulls_and_unseen_categories_are_counted_apart() {
    let mut world = World::new(Config { baselines: baselines(), ..Config::default() });
    for i in 0..1_000 {
        let value = match i % 10 {
            0 => None,
            1 => Some(f32::NAN),
            _ => Some(0.0),
        };
        let values = [
            FeatureValue { feature: 0, value, unseen: i % 10 == 2 },
            FeatureValue { feature: 9, value, unseen: false },
        ];
        world.insight.features(START, &values);
    }
    let report = world.report().features.remove(0);
    assert_eq!((report.null_share.value, report.unseen_share.value, report.drift.samples), (0.2, 0.1, 700));
    assert!(report.null_share.samples == 1_000 && report.drift.value > 1.0);
    world.insight.set_baselines(Baselines { features: Vec::new(), ..baselines() }).unwrap();
    world.insight.set_baselines(baselines()).unwrap();
    assert!(!world.report().features[0].drift.is_known());
}

fn embeddings(seed: u64, n: u64, turned: f64) -> attune_insight::EmbeddingReport {
    let (mut world, mut rng) = (World::new(Config { baselines: baselines(), ..Config::default() }), rng(seed));
    let noise = Normal::new(0.0, 2.0).unwrap();
    for _ in 0..n {
        // The mean turns from all ones by `turned` towards an axis at a right angle to it.
        let vector: Vec<f32> = (0..32)
            .map(|d| {
                (turned.cos() + if d % 2 == 0 { turned.sin() } else { -turned.sin() } + noise.sample(&mut rng)) as f32
            })
            .collect();
        let age = Duration::from_secs(rng.random_range(0..400));
        let found = chance(&mut rng, 0.96).then_some((age, &vector[..]));
        world.insight.embedding(&EmbeddingRead {
            at: START + MINUTE,
            visitor: rng.random(),
            segment: Segment::Power,
            found,
        });
    }
    world.insight.advance(START + 2 * MINUTE);
    world.report().embedding
}

#[test]
fn embeddings_age_and_drift() {
    let still = embeddings(1, 6_000, 0.0);
    assert!(still.drift.value < 0.005, "{still:?}");
    let report = embeddings(2, 6_000, 0.6);
    println!("turned by 0.6: {:?} for {:.4}", report.drift, 1.0 - 0.6f64.cos());
    assert_near("drift", report.drift.value, 1.0 - 0.6f64.cos(), 0.01);
    assert_near("coverage", report.coverage.value, 0.96, 0.01);
    assert_near("staleness", report.staleness.value, 99.0 / 400.0, 0.02);
    let [median, high] = report.freshness[usize::from(Segment::Power.code())];
    assert_near("median age", median.value, 200.0, 10.0);
    assert_near("95th of age", high.value, 380.0, 10.0);
    assert!(!report.freshness[0][0].is_known() && report.drift.samples == median.samples);
    assert_near("norm", report.norm[0].value, (32.0f64 * (1.0 + 4.0)).sqrt(), 0.8);
}

#[test]
fn intervals_of_embeddings_cover_the_truth() {
    let truth = 1.0 - 0.6f64.cos();
    assert_covers("embedding drift", |seed| (embeddings(seed, 3_000, 0.6).drift, truth));
    assert_covers("staleness", |seed| (embeddings(seed, 1_000, 0.0).staleness, 99.0 / 400.0));
    assert_covers("embedding coverage", |seed| (embeddings(seed, 1_000, 0.0).coverage, 0.96));
}

#[test]
fn recall_is_a_mean_by_cut_off() {
    let recall = |seed: u64| {
        let (mut world, mut rng) = (World::new(Config::default()), rng(seed));
        for _ in 0..200 {
            for (k, misses) in [(RecallAt::Ten, 0.0), (RecallAt::Hundred, 0.05), (RecallAt::Thousand, 0.2)] {
                let found = (0..100).filter(|_| !chance(&mut rng, misses)).count();
                let recall = found as f32 / 100.0;
                world.insight.shadow_search(&ShadowSearch { at: START, model: 4, k, recall });
            }
        }
        world.report().models[0]
    };
    let one = recall(1);
    assert_eq!((one.model, one.recall[0].value, one.recall[0].samples), (Some(4), 1.0, 200));
    assert_covers("recall@100", |seed| (recall(seed).recall[1], 0.95));
    assert_covers("recall@1000", |seed| (recall(seed).recall[2], 0.8));
}
