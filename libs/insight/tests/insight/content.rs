//! Diversity, novelty, freshness, serendipity; coverage and concentration of the catalogue.

use crate::world::{START, World, assert_covers, assert_near, chance, decided, rng};
use attune_domain::{ItemIx, Source};
use attune_insight::{CatalogueItem, Config, Decided, OutcomeKind, Surroundings};
use rand::RngExt as _;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn shares_of_content_cover_the_truth() {
    let of = |seed: u64| {
        let (mut world, mut rng) = (World::new(Config::default()), rng(seed));
        for visitor in 0..4_000u64 {
            // Categories at 1/2, 1/4, 1/4: diversity 1 - (1/4 + 2/16) = 0.625.
            let category = [0, 0, 1, 2][rng.random_range(0..4)];
            let age = chance(&mut rng, 0.8).then(|| if chance(&mut rng, 0.3) { DAY } else { DAY * 30 });
            let popularity: f32 = rng.random();
            // What is liked is unpopular at three times the rate: 0.2 * 3 / (0.2 * 3 + 0.8).
            let liked = chance(&mut rng, if popularity < 0.2 { 0.3 } else { 0.1 });
            let one = Decided {
                category,
                item_age: age,
                popularity,
                seen_before: chance(&mut rng, 0.7),
                ..decided(START, visitor)
            };
            world.show(0, one, if liked { &[OutcomeKind::Like] } else { &[] });
        }
        world.report().content
    };
    assert_covers("diversity", |seed| (of(seed).diversity, 0.625));
    assert_covers("novelty", |seed| (of(seed).novelty, 0.3));
    assert_covers("freshness", |seed| (of(seed).freshness, 0.3));
    assert_covers("serendipity", |seed| (of(seed).serendipity, 0.6 / 1.4));
}

#[test]
fn diversity_of_few_impressions_is_not_too_low() {
    // The plain 1 - sum of squares of 20 draws from 10 equal categories is 0.855 on average, the truth 0.9.
    let mean = (0..400).map(|seed| {
        let (mut world, mut rng) = (World::new(Config::default()), rng(seed));
        for visitor in 0..20 {
            world.show_clicked(Decided { category: rng.random_range(0..10), ..decided(START, visitor) }, false);
        }
        world.report().content.diversity.value / 400.0
    });
    assert_near("mean", mean.sum(), 0.9, 0.006);
}

#[test]
fn a_filter_that_errs_is_corrected() {
    let mut world = World::new(Config { seen_false_positives: 0.1, ..Config::default() });
    for visitor in 0..1_000u64 {
        world.show_clicked(Decided { seen_before: visitor % 100 < 73, ..decided(START, visitor) }, false);
    }
    assert_near("novelty", world.report().content.novelty.value, 0.3, 1e-9);
}

#[test]
fn coverage_gini_and_cold_items_are_exact() {
    let mut world = World::new(Config::default());
    let mut visitor = 0;
    let mut show = |world: &mut World, item: u32, times: u32, source: Source| {
        for _ in 0..times {
            visitor += 1;
            world.show(item, Decided { source, ..decided(START, visitor) }, &[]);
        }
    };
    for (item, times) in [(0, 10), (1, 20), (2, 30), (3, 11), (4, 10)] {
        show(&mut world, item, times, Source::Personalized);
    }
    // The holdout's pages and what has left the catalogue count for nothing.
    show(&mut world, 5, 50, Source::Baseline);
    show(&mut world, 77, 50, Source::Personalized);
    show(&mut world, ItemIx::UNKNOWN.0, 5, Source::Personalized);
    let day = DAY.as_millis() as i64;
    let catalogue: Vec<CatalogueItem> = (0..8)
        .map(|item| CatalogueItem {
            item: ItemIx(item),
            created_at: (item >= 2).then_some(START - if item < 6 { day / 2 } else { 2 * day }),
        })
        .collect();
    let report = world.insight.report(Surroundings { catalogue: &catalogue, ..Surroundings::default() });
    assert_eq!(report.content.catalog_coverage.value, 5.0 / 8.0);
    // Young: items 2 to 5, of which 2 and 3 have more than ten.
    assert_eq!((report.bandit.cold_coverage.value, report.bandit.cold_coverage.samples), (0.5, 4));
    let counts = [0.0, 0.0, 0.0, 10.0, 10.0, 11.0, 20.0, 30.0];
    let pairs: f64 = counts.iter().flat_map(|a: &f64| counts.iter().map(move |b| (a - b).abs())).sum();
    assert_near("gini", report.bandit.gini.value, pairs / (2.0 * 8.0 * 81.0), 1e-12);
    assert_eq!(report.bandit.gini.samples, 81);
}

#[test]
fn gini_covers_the_concentration_of_what_is_behind_it() {
    let shares: Vec<f64> = (1..=100).map(|rank| 1.0 / rank as f64).collect();
    let total: f64 = shares.iter().sum();
    let gini = shares.iter().rev().enumerate().map(|(i, share)| (2.0 * (i as f64 + 1.0) - 101.0) * share).sum::<f64>()
        / (100.0 * total);
    let catalogue: Vec<_> = (0..100).map(|item| CatalogueItem { item: ItemIx(item), created_at: None }).collect();
    assert_covers("gini", |seed| {
        let (mut world, mut rng) = (World::new(Config::default()), rng(seed));
        for visitor in 0..20_000 {
            let mut at = rng.random::<f64>() * total;
            let item = shares.iter().position(|share| {
                at -= share;
                at < 0.0
            });
            world.show(item.unwrap_or(99) as u32, decided(START, visitor), &[]);
        }
        (world.insight.report(Surroundings { catalogue: &catalogue, ..Surroundings::default() }).bandit.gini, gini)
    });
}
