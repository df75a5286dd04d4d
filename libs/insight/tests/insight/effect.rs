//! CTR, conversion, engagement, revenue, lift.

use crate::world::{START, World, assert_covers, assert_near, chance, coverage, decided, rng};
use attune_domain::{Segment, Source};
use attune_insight::{Config, Estimate, OutcomeKind};
use rand::RngExt as _;
use rand_distr::{Beta, Distribution as _};

/// Visitors differ (their own rate is Beta-distributed around `rate`) and come 1 to 8 times.
fn visit(world: &mut World, seed: u64, source: Source, visitors: std::ops::Range<u64>, rate: f64) {
    let mut rng = rng(seed);
    let rates = Beta::new(rate * 4.0, (1.0 - rate) * 4.0).unwrap();
    for visitor in visitors {
        let own = rates.sample(&mut rng);
        for _ in 0..rng.random_range(1..=8) {
            let is_clicked = chance(&mut rng, own);
            world.show_clicked(crate::world::decided(START, visitor).by(source), is_clicked);
        }
    }
}

trait By {
    fn by(self, source: Source) -> Self;
}

impl By for attune_insight::Decided {
    fn by(self, source: Source) -> Self {
        Self { source, ..self }
    }
}

#[test]
fn ctr_covers_the_truth_although_visitors_repeat_themselves() {
    let ctr = |seed| {
        let mut world = World::new(Config::default());
        visit(&mut world, seed, Source::Personalized, 0..2_000, 0.1);
        world.report().by_source[0].ctr
    };
    assert_covers("CTR", |seed| (ctr(seed), 0.1));
    // What an interval over impressions would do: too narrow, because a visitor's impressions are alike.
    let naive = coverage("CTR, binomial over impressions", 200, |seed| {
        let e = ctr(seed);
        let half = 1.96 * (e.value * (1.0 - e.value) / e.samples as f64).sqrt();
        (Estimate { low: e.value - half, high: e.value + half, ..e }, 0.1)
    });
    assert!(naive < 0.93, "{naive}");
}

#[test]
fn lift_covers_the_truth() {
    assert_covers("lift", |seed| {
        let mut world = World::new(Config::default());
        visit(&mut world, seed, Source::Personalized, 0..3_000, 0.12);
        visit(&mut world, seed + 10_000, Source::Baseline, 10_000..11_000, 0.1);
        (world.report().lift, 0.2)
    });
}

#[test]
fn nothing_gained_is_no_lift_and_samples_are_those_of_equal_halves() {
    let mut world = World::new(Config::default());
    for visitor in 0..20_000u64 {
        let source = if visitor % 20 == 0 { Source::Baseline } else { Source::Personalized };
        world.show_clicked(decided(START, visitor).by(source), (visitor / 20) % 10 == 0);
    }
    let lift = world.report().lift;
    assert_eq!(lift.value, 0.0);
    assert!(lift.contains(0.0));
    assert_eq!(lift.samples, 4 * 19 * 20_000 / 400);
}

#[test]
fn rates_and_totals_of_a_page_of_known_outcomes() {
    let mut world = World::new(Config::default());
    let visitors = 1_000;
    for visitor in 0..visitors {
        let outcomes: &[OutcomeKind] = match visitor % 10 {
            0 => &[OutcomeKind::Click, OutcomeKind::Dwell(30.0), OutcomeKind::Conversion(500.0)],
            1 | 2 => &[OutcomeKind::Click, OutcomeKind::Dwell(10.5)],
            _ => &[],
        };
        let segment = if visitor % 2 == 0 { Segment::Power } else { Segment::New };
        world.show(0, attune_insight::Decided { segment, ..decided(START, visitor) }, outcomes);
    }
    let report = world.report();
    let personalized = report.by_source[0];
    assert_near("ctr", personalized.ctr.value, 0.3, 1e-12);
    assert_near("conversion", personalized.conversion_rate.value, 0.1, 1e-12);
    assert_near("engagement", personalized.engagement_seconds.value, 5.1, 1e-9);
    assert_near("revenue", personalized.revenue.value, 50.0, 1e-9);
    assert_near("power", report.segment_ctr[usize::from(Segment::Power.code())].value, 0.4, 1e-12);
    assert_near("new", report.segment_ctr[usize::from(Segment::New.code())].value, 0.2, 1e-12);
    assert!(!report.by_source[1].ctr.is_known() && !report.lift.is_known());
    for estimate in
        [personalized.ctr, personalized.conversion_rate, personalized.engagement_seconds, personalized.revenue]
    {
        assert!(estimate.low < estimate.value && estimate.value < estimate.high && estimate.samples == visitors);
    }
    let totals = report.totals.by_source[0];
    assert_eq!((totals.impressions, totals.clicks, totals.conversions), (1_000, 300, 100));
    assert_eq!((totals.engagement_ms, totals.revenue), (5_100_000, 50_000));
    assert_eq!((report.totals.exploitation_rewards, report.totals.exploration_rewards), (300, 0));
}
