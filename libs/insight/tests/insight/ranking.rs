//! NDCG, and what position does to clicks.

use crate::world::{START, World, assert_covers, assert_near, chance, decided, rng};
use attune_insight::{Config, Decided, ModelReport, SlotKind};
use rand::RngExt as _;
use rand_distr::{Distribution as _, LogNormal, Normal};

struct Truth {
    ndcg: f64,
    dcg: f64,
    /// NDCG of clicks as they are, over requests that have one.
    clicked: f64,
}

fn discount(slot: usize) -> f64 {
    1.0 / (slot as f64 + 2.0).log2()
}

fn ideal(mut gains: Vec<f64>) -> f64 {
    gains.sort_by(|a, b| b.total_cmp(a));
    gains.iter().enumerate().map(|(slot, gain)| gain * discount(slot)).sum()
}

/// Slates of ten out of fifty by a noisy view of relevance, each slot uniform with probability `uniform`. Slot k is
/// examined with probability `(k + 1)^-0.7`. Scores are relevance times `scale`.
fn slates(seed: u64, requests: u64, uniform: f64, scale: f64) -> (ModelReport, Truth) {
    let (mut world, mut rng) = (World::new(Config::default()), rng(seed));
    let relevances = LogNormal::new(-2.2, 0.6).unwrap();
    let noise = Normal::new(0.0, 0.7).unwrap();
    let (mut gained, mut best, mut naive, mut with_click) = (0.0, 0.0, 0.0, 0.0);
    for request in 0..requests {
        let mut candidates: Vec<(f64, f64)> = (0..50)
            .map(|_| {
                let relevance: f64 = f64::min(relevances.sample(&mut rng), 0.95);
                (relevance.ln() + noise.sample(&mut rng), relevance)
            })
            .collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut relevance: Vec<f64> = candidates[..10].iter().map(|c| c.1).collect();
        let mut kinds = [SlotKind::Exploit; 10];
        for slot in 0..10 {
            if chance(&mut rng, uniform) {
                relevance[slot] = candidates[rng.random_range(0..50)].1;
                kinds[slot] = SlotKind::Uniform;
            }
        }
        let mut clicks = vec![0.0; 10];
        for slot in 0..10 {
            let better = (0..10).filter(|&i| (relevance[i], i) > (relevance[slot], slot)).count();
            let is_clicked = chance(&mut rng, relevance[slot] * (slot as f64 + 1.0).powf(-0.7));
            clicks[slot] = f64::from(u8::from(is_clicked));
            let one = Decided {
                position: slot as u16,
                ideal_position: better as u16,
                score: Some((relevance[slot] * scale) as f32),
                kind: kinds[slot],
                ..decided(START, request)
            };
            world.show_clicked(one, is_clicked);
        }
        let gain = |gains: &[f64]| gains.iter().enumerate().map(|(slot, gain)| gain * discount(slot)).sum::<f64>();
        gained += gain(&relevance);
        best += ideal(relevance);
        if clicks.iter().any(|&click| click > 0.0) {
            naive += gain(&clicks) / ideal(clicks);
            with_click += 1.0;
        }
    }
    let truth = Truth { ndcg: gained / best, dcg: gained / requests as f64, clicked: naive / with_click };
    (world.report().models[0], truth)
}

#[test]
fn position_fools_clicks_and_not_the_corrected_number() {
    let (report, truth) = slates(1, 60_000, 0.02, 1.0);
    println!(
        "NDCG {:?} for {:.4}; of clicks {:.4}; DCG {:?} for {:.4}",
        report.ndcg, truth.ndcg, truth.clicked, report.dcg, truth.dcg
    );
    assert!((truth.clicked - truth.ndcg).abs() > 0.1, "clicks: {} for {}", truth.clicked, truth.ndcg);
    assert_near("ndcg", report.ndcg.value, truth.ndcg, 0.03);
    assert!(report.ndcg.contains(truth.ndcg) && report.dcg.contains(truth.dcg));
    assert_eq!(report.ndcg.samples, 600_000);
}

#[test]
fn scores_need_to_be_right_in_proportion_only() {
    let (full, _) = slates(2, 3_000, 0.1, 1.0);
    let (half, _) = slates(2, 3_000, 0.1, 0.5);
    assert_near("ndcg", half.ndcg.value, full.ndcg.value, 1e-4);
}

#[test]
fn without_uniform_slots_there_is_no_number() {
    let (report, _) = slates(3, 500, 0.0, 1.0);
    assert!(!report.ndcg.is_known() && !report.dcg.is_known());
}

#[test]
fn the_interval_covers_the_truth() {
    assert_covers("NDCG", |seed| {
        let (report, truth) = slates(seed, 1_500, 0.1, 1.0);
        (report.ndcg, truth.ndcg)
    });
    assert_covers("DCG", |seed| {
        let (report, truth) = slates(seed, 1_500, 0.1, 1.0);
        (report.dcg, truth.dcg)
    });
}
