//! Calibration error and confidence.

use crate::world::{START, World, assert_covers, assert_near, chance, decided, rng};
use attune_insight::{Config, Decided, ModelReport};
use rand_distr::{Beta, Distribution as _};

/// Clicks happen at `factor` times the score; scores are Beta(1, 20): a CTR of 4.8 %.
fn model(seed: u64, impressions: u64, factor: f64) -> (ModelReport, f64) {
    let (mut world, mut rng) = (World::new(Config::default()), rng(seed));
    let scores = Beta::new(1.0, 20.0).unwrap();
    let mut squares = 0.0;
    for visitor in 0..impressions {
        let score: f64 = scores.sample(&mut rng);
        squares += (score * (factor - 1.0)).powi(2);
        let is_clicked = chance(&mut rng, score * factor);
        world.show_clicked(Decided { score: Some(score as f32), ..decided(START, visitor) }, is_clicked);
    }
    (world.report().models[0], (squares / impressions as f64).sqrt())
}

#[test]
fn a_calibrated_model_has_no_error_on_average() {
    let errors: Vec<f64> = (0..100).map(|seed| model(seed, 1_000, 1.0).0.calibration.value).collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    println!("debiased calibration error of a calibrated model at 1 000 impressions: mean {mean:.4}");
    assert_near("mean", mean, 0.0, 0.005);
    let (report, _) = model(1, 100_000, 1.0);
    assert_near("at 100 000", report.calibration.value, 0.0, 0.004);
    assert!(report.calibration.contains(0.0) && report.calibration.samples == 100_000);
}

#[test]
fn a_model_that_is_a_fifth_too_low_is_seen() {
    let (report, truth) = model(2, 50_000, 1.2);
    let error = report.calibration;
    println!("a fifth too low at 50 000 impressions: {error:?} for {truth:.4}");
    assert!(error.low > 0.005 && error.contains(truth), "{error:?} for {truth}");
}

#[test]
fn the_interval_covers_the_truth() {
    assert_covers("calibration error, calibrated", |seed| {
        let (report, truth) = model(seed, 10_000, 1.0);
        (report.calibration, truth)
    });
    assert_covers("calibration error, a fifth too low", |seed| {
        let (report, truth) = model(seed + 1_000, 10_000, 1.2);
        (report.calibration, truth)
    });
}

#[test]
fn confidence_is_of_first_slots_and_versions_stay_apart() {
    let mut world = World::new(Config::default());
    for visitor in 0..1_000u64 {
        let first = Decided { score: Some((visitor % 100) as f32 / 100.0), model: 7, ..decided(START, visitor) };
        world.show_clicked(first, false);
        world.show_clicked(Decided { position: 1, score: Some(0.001), ..first }, false);
        world.show_clicked(Decided { score: None, ..first }, true);
        world.show_clicked(Decided { model: 9, score: Some(0.25), ..first }, false);
    }
    let report = world.report();
    let [seven, nine] = report.models[..] else { panic!("two versions: {:?}", report.models) };
    assert_eq!((seven.model, nine.model), (Some(7), Some(9)));
    assert_near("mean", seven.confidence[0].value, 0.495, 1e-6);
    assert_near("median", seven.confidence[1].value, 0.495, 0.02);
    assert_near("95th", seven.confidence[2].value, 0.95, 0.02);
    assert_near("other", nine.confidence[0].value, 0.25, 1e-6);
    assert_eq!(seven.confidence[0].samples, 1_000);
}
