//! Who is active, and who comes back.

use crate::world::{START, World, assert_near, chance, decided, rng};
use attune_insight::Config;

const DAY: i64 = 86_400_000;

#[test]
fn active_visitors_are_those_of_a_day() {
    let mut world = World::new(Config::default());
    for hour in 0..36i64 {
        world.insight.advance(START + hour * DAY / 24);
        for visitor in 0..100u64 {
            world.show_clicked(decided(START + hour * DAY / 24, visitor + 50 * hour as u64), false);
        }
    }
    // The last 24 hours begin at visitor 600 and end at 1849.
    let active = world.report().active_users;
    assert_eq!((active.value, active.low, active.high, active.samples), (1_250.0, 1_250.0, 1_250.0, 1_250));
}

#[test]
fn return_rate_follows_the_visitors_of_a_day_for_seven() {
    for (visitors, exact) in [(4_000u64, true), (40_000, false)] {
        let (mut world, mut rng) = (World::new(Config::default()), rng(3));
        let mut returned = vec![false; visitors as usize];
        for day in 0..10i64 {
            world.insight.advance(START + day * DAY);
            for visitor in 0..visitors {
                // All come on day 1; 6 % come on each other day, and most of those more than once.
                if day == 1 || chance(&mut rng, 0.06) {
                    world.show_clicked(decided(START + day * DAY, visitor), false);
                    world.show_clicked(decided(START + day * DAY, visitor), false);
                    returned[visitor as usize] |= (2..=8).contains(&day);
                }
            }
            if day < 9 {
                let early = world.report().return_ratio;
                assert!(!early.is_known() || day == 8, "on day {day}: {early:?}");
            }
        }
        let truth = returned.iter().filter(|&&it| it).count() as f64 / visitors as f64;
        let ratio = world.report().return_ratio;
        println!("return rate of {visitors}: {ratio:?} for {truth:.4}");
        assert_near("about 1 - 0.94^7", truth, 0.3515, 0.02);
        assert!(ratio.contains(truth), "{ratio:?} for {truth}");
        assert_eq!(ratio.samples == visitors, exact);
        assert!(ratio.samples > 3_500);
        if exact {
            assert_near("exact", ratio.value, truth, 1e-12);
        }
    }
}
