//! Regret against the best arm, and what the posteriors believe of it.

use crate::world::{START, World, assert_covers, assert_near, chance, decided, rng};
use attune_insight::{Config, Decided, Posterior, Report, SlotKind, Surroundings};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution as _};

const ARMS: usize = 20;

/// Draws an arm: uniformly with probability `uniform`, else as `otherwise` says. The slot's decision facts.
fn slot(rng: &mut ChaCha8Rng, arms: usize, uniform: f64, otherwise: impl FnOnce(&mut ChaCha8Rng) -> usize) -> Decided {
    let is_uniform = chance(rng, uniform);
    let arm = if is_uniform { rng.random_range(0..arms) } else { otherwise(rng) };
    let (kind, propensity) =
        if is_uniform { (SlotKind::Uniform, Some((uniform / arms as f64) as f32)) } else { (SlotKind::Exploit, None) };
    Decided { arm: arm as u8, kind, propensity, ..decided(START, rng.random()) }
}

/// Thompson sampling with Beta posteriors, of which arm 0's is `first`, over `rounds` of the window. `rate` of an arm may
/// change with the round.
fn thompson(
    seed: u64,
    rounds: usize,
    uniform: f64,
    first: [f64; 2],
    rate: impl Fn(usize, usize) -> f64,
) -> (Report, f64) {
    let (mut world, mut rng) = (World::new(Config::default()), rng(seed));
    let mut counts = [[1.0f64; 2]; ARMS];
    counts[0] = first;
    let (mut sums, mut earned) = ([0.0; ARMS], 0.0);
    for round in 0..rounds {
        let at = START + round as i64 * 300 * 60_000 / rounds as i64;
        world.insight.advance(at);
        let draw = |rng: &mut ChaCha8Rng| {
            let draws: Vec<f64> = counts.iter().map(|[a, b]| Beta::new(*a, *b).unwrap().sample(rng)).collect();
            (0..ARMS).max_by(|&a, &b| draws[a].total_cmp(&draws[b])).unwrap()
        };
        let one = Decided { at, ..slot(&mut rng, ARMS, uniform, draw) };
        let arm = usize::from(one.arm);
        let reward = chance(&mut rng, rate(arm, round));
        counts[arm][usize::from(!reward)] += 1.0;
        earned += rate(arm, round);
        sums.iter_mut().enumerate().for_each(|(arm, sum)| *sum += rate(arm, round));
        world.show_clicked(one, reward);
    }
    let best = sums.iter().copied().fold(0.0, f64::max);
    let posteriors: Vec<Posterior> = counts
        .iter()
        .enumerate()
        .map(|(arm, [a, b])| Posterior {
            arm: arm as u8,
            alpha: *a as f32,
            beta: *b as f32,
            impressions: (a + b - 2.0) as f32,
        })
        .collect();
    let report = world.insight.report(Surroundings { posteriors: &posteriors, ..Surroundings::default() });
    (report, (best - earned) / best)
}

#[test]
fn an_arm_that_became_best_is_seen_although_the_posteriors_do_not_see_it() {
    const ROUNDS: usize = 250_000;
    let rate = |arm: usize, round: usize| match arm {
        0 if round > ROUNDS / 2 => 0.25,
        0 => 0.02,
        arm => 0.03 + 0.003 * arm as f64,
    };
    // The bandit has known for long that arm 0 is bad.
    let (report, truth) = thompson(5, ROUNDS, 0.02, [200.0, 9_800.0], rate);
    let (regret, believed) = (report.bandit.regret, report.bandit.believed_regret);
    println!("drifted: regret {regret:?}, believed {believed:?}, true {truth:.3}");
    assert!(truth > 0.3 && regret.contains(truth), "{regret:?} for {truth}");
    assert_near("regret", regret.value, truth, 0.12);
    assert!(regret.low > 0.1, "its lower end alerts: {regret:?}");
    assert!(believed.value < 0.06, "{believed:?} for {truth}");
    assert_near("uniform share", report.exploration.random.value, 0.02, 0.002);
}

#[test]
fn a_bandit_that_has_learnt_raises_no_alarm() {
    let (report, truth) = thompson(6, 60_000, 0.02, [1.0; 2], |arm, _| 0.05 + 0.01 * arm as f64);
    println!("stationary: regret {:?}, true {truth:.3}", report.bandit.regret);
    assert!(truth < 0.1 && report.bandit.regret.low < 0.1 && report.bandit.regret.contains(truth));
}

#[test]
fn the_interval_covers_the_truth() {
    // Arm 7 is best; the policy mostly shows arm 4.
    let rate = |arm: usize| 0.05 + if arm == 7 { 0.07 } else { 0.005 * arm as f64 };
    let policy = |rng: &mut ChaCha8Rng| if chance(rng, 0.8) { 4 } else { 7 };
    let actual = 0.9 * (0.8 * rate(4) + 0.2 * rate(7)) + 0.1 * (0..8).map(rate).sum::<f64>() / 8.0;
    let truth = 1.0 - actual / rate(7);
    assert_covers("regret", |seed| {
        let (mut world, mut rng) = (World::new(Config::default()), rng(seed));
        for _ in 0..20_000 {
            let one = slot(&mut rng, 8, 0.1, policy);
            let is_clicked = chance(&mut rng, rate(one.arm.into()));
            world.show_clicked(one, is_clicked);
        }
        (world.report().bandit.regret, truth)
    });
}

#[test]
fn the_best_of_many_equal_arms_by_chance_is_no_regret() {
    assert_covers("regret, nothing to miss", |seed| {
        let (mut world, mut rng) = (World::new(Config::default()), rng(seed));
        for _ in 0..10_000 {
            let one = slot(&mut rng, 50, 1.0, |_| 0);
            let is_clicked = chance(&mut rng, 0.2);
            world.show_clicked(one, is_clicked);
        }
        (world.report().bandit.regret, 0.0)
    });
}

#[test]
fn propensities_undo_uneven_candidate_sets() {
    // Arm 0 pays 0.3 where it is drawn at 1/2 and 0.1 where it is drawn at 1/4, in equally many requests of each.
    let (mut world, mut rng) = (World::new(Config::default()), rng(9));
    for visitor in 0..40_000 {
        let is_rich = visitor % 2 == 0;
        let (propensity, rate) = if is_rich { (0.5, 0.3) } else { (0.25, 0.1) };
        let is_drawn = chance(&mut rng, propensity);
        let kind = if is_drawn { SlotKind::Uniform } else { SlotKind::Explore };
        let one = Decided { kind, propensity: Some(propensity as f32), ..decided(START, visitor) };
        let is_clicked = chance(&mut rng, if is_drawn { rate } else { 0.1 });
        world.show_clicked(one, is_clicked);
    }
    // Value of the arm: 0.2, of the policy: (0.5 * 0.3 + 0.5 * 0.1 + 0.1) / 2 = 0.15. Unweighted the arm would be 0.233.
    let regret = world.report().bandit.regret;
    assert_near("regret", regret.value, 0.25, 0.03);
    assert!(regret.contains(0.25), "{regret:?}");
}

#[test]
fn beliefs_of_known_posteriors() {
    let posterior = |arm, alpha, beta, impressions| Posterior { arm, alpha, beta, impressions };
    let posteriors = [posterior(0, 10.0, 90.0, 900.0), posterior(0, 30.0, 70.0, 0.0), posterior(3, 40.0, 60.0, 100.0)];
    let world = World::new(Config::default());
    let bandit = world.insight.report(Surroundings { posteriors: &posteriors, ..Surroundings::default() }).bandit;
    // Arms are worth 0.2 and 0.4, what was shown 0.9 * 0.1 + 0.1 * 0.4.
    assert_near("believed", bandit.believed_regret.value, (0.4 - 0.13) / 0.4, 1e-6);
    let deviation = |a: f64, b: f64| (a * b / ((a + b).powi(2) * (a + b + 1.0))).sqrt();
    assert_near("arm 0", bandit.uncertainty[&0].value, (deviation(10.0, 90.0) + deviation(30.0, 70.0)) / 2.0, 1e-9);
    assert_near("arm 3", bandit.uncertainty[&3].value, deviation(40.0, 60.0), 1e-9);
}
