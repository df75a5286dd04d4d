//! The simulated world keeps its promises: one seed one world, real probabilities, an oracle that is best.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use attune_dataset::world::{AGE_BUCKETS, SLATE, examination};
use attune_dataset::{Dataset, World, WorldConfig};
use attune_domain::{Context, EventKind, ItemIx, UnixMillis};
use attune_identity::SubjectKey;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

const NOW: UnixMillis = 1_769_682_600_000;

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| World::new(WorldConfig::default()).unwrap())
}

fn history() -> &'static Dataset {
    static HISTORY: OnceLock<Dataset> = OnceLock::new();
    HISTORY.get_or_init(|| world().history(&SubjectKey::new(1, [7; 32]), NOW, 3))
}

fn random_slate(rng: &mut ChaCha8Rng, items: u32) -> Vec<ItemIx> {
    (0..SLATE).map(|_| ItemIx(rng.random_range(0..items))).collect()
}

proptest! {
    #[test]
    fn probabilities_fall_with_the_slot_and_the_oracle_is_best(user in 0u32..5_000, swap in (0usize..SLATE, 0usize..SLATE), seed: u64) {
        let world = world();
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let context = world.visitor(user, seed).next_context();
        let slate = random_slate(rng, 2_000);
        for &item in &slate {
            let by_slot: Vec<f64> = (0..100).map(|p| world.click_probability(user, context, item, p)).collect();
            prop_assert!(by_slot.iter().all(|p| *p > 0.0 && *p < 1.0));
            prop_assert!(by_slot.windows(2).all(|w| w[0] > w[1]));
        }
        let oracle = world.oracle_slate(user, context, SLATE);
        prop_assert_eq!(oracle.iter().collect::<HashSet<_>>().len(), SLATE);
        let best = world.expected_ctr(user, context, &oracle);
        prop_assert!(best > world.expected_ctr(user, context, &slate));
        let mut changed = oracle.clone();
        changed.swap(swap.0, swap.1);
        prop_assert!(best >= world.expected_ctr(user, context, &changed));
        if !oracle.contains(&slate[0]) {
            changed[swap.0] = slate[0];
            prop_assert!(best >= world.expected_ctr(user, context, &changed));
        }
    }
}

#[test]
fn one_seed_is_one_world() {
    let config = WorldConfig { items: 300, users: 50, ..WorldConfig::default() };
    let key = SubjectKey::new(1, [7; 32]);
    let hash = |seed| World::new(WorldConfig { seed, ..config.clone() }).unwrap().history(&key, NOW, 3).hash();
    assert_eq!(hash(5), hash(5));
    assert_ne!(hash(5), hash(6));
    let visits = |seed| {
        let world = World::new(config.clone()).unwrap();
        let mut visitor = world.visitor(7, seed);
        let slate: Vec<_> = (0..20).map(ItemIx).collect();
        (0..20)
            .map(|_| {
                let c = visitor.next_context();
                visitor.react(&world, &slate, c)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(visits(1), visits(1));
    assert_ne!(visits(1), visits(2));
}

#[test]
fn every_seed_is_calibrated() {
    for seed in 0..5 {
        let world = World::new(WorldConfig { seed, ..WorldConfig::default() }).unwrap();
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let (mut random, mut oracle) = (0.0, 0.0);
        let users = 500;
        for user in 1_000..1_000 + users {
            let context = world.traits(user).usual_context();
            random += world.expected_ctr(user, context, &random_slate(rng, 2_000)) / f64::from(users);
            oracle += world.expected_ctr(user, context, &world.oracle_slate(user, context, SLATE)) / f64::from(users);
        }
        eprintln!("seed {seed}: random {random:.4}, oracle {oracle:.4}");
        assert!((0.05..0.08).contains(&random), "seed {seed}: random {random}");
        assert!((0.25..0.35).contains(&oracle), "seed {seed}: oracle {oracle}");
    }
}

#[test]
fn visitors_click_as_often_as_expected() {
    let world = world();
    let (mut clicks, mut expected, mut converted, mut slots) = (0u32, 0.0, 0u32, 0usize);
    for user in 0..3_000 {
        let mut visitor = world.visitor(user, 11);
        let context = visitor.next_context();
        let slate = world.oracle_slate(user, context, SLATE);
        expected += world.expected_ctr(user, context, &slate) * SLATE as f64;
        slots += SLATE;
        let visit = visitor.react(world, &slate, context);
        assert!(visit.actions.windows(2).all(|w| w[0].after < w[1].after));
        for action in &visit.actions {
            assert_eq!(slate[usize::from(action.position)], action.item);
            clicks += u32::from(action.kind == EventKind::Click);
            converted += u32::from(action.kind == EventKind::Conversion);
            assert!(action.value.is_finite() && action.value > 0.0);
        }
    }
    // Four standard deviations of a sum of that many draws.
    let slack = 4.0 * (slots as f64 * 0.25).sqrt();
    assert!((f64::from(clicks) - expected).abs() < slack, "{clicks} clicks, {expected:.0} expected");
    let rate = f64::from(converted) / f64::from(clicks);
    assert!((0.03..0.25).contains(&rate), "conversion {rate}");
}

#[test]
fn age_matters() {
    // Mean over visitors of an age of the categories of their best slates: ages differ in what they want.
    let world = world();
    let mut shares: HashMap<&str, HashMap<&str, f64>> = HashMap::new();
    for user in 0..2_000 {
        let traits = world.traits(user);
        let share = shares.entry(traits.age_bucket()).or_default();
        for item in world.oracle_slate(user, traits.usual_context(), SLATE) {
            *share.entry(world.items()[item.index()].categories[0].as_str()).or_default() += 1.0;
        }
    }
    assert_eq!(shares.len(), AGE_BUCKETS.len());
    for share in shares.values_mut() {
        let sum: f64 = share.values().sum();
        share.values_mut().for_each(|s| *s /= sum);
    }
    let (young, old) = (&shares["18-24"], &shares["55+"]);
    let distance: f64 = world
        .items()
        .iter()
        .map(|i| i.categories[0].as_str())
        .collect::<HashSet<_>>()
        .into_iter()
        .map(|c| (young.get(c).unwrap_or(&0.0) - old.get(c).unwrap_or(&0.0)).abs())
        .sum::<f64>()
        / 2.0;
    assert!(distance > 0.3, "youngest and oldest differ in {distance} of their slates");
}

#[test]
fn the_history_is_a_valid_data_set() {
    let data = history();
    eprintln!("{} events", data.events.len());
    assert!((100_000..=160_000).contains(&data.events.len()), "{} events", data.events.len());
    assert!(data.events.is_sorted_by_key(|e| e.occurred_at));
    assert!(data.events.iter().all(|e| e.occurred_at < NOW && e.occurred_at > NOW - 29 * 86_400_000));
    let mut shown: HashMap<u32, Vec<ItemIx>> = HashMap::new();
    let mut last: HashMap<u32, UnixMillis> = HashMap::new();
    let (mut clicks, mut found) = (0, 0);
    for e in &data.events {
        match (e.kind, e.slate) {
            (EventKind::Impression, Some(slot)) => {
                let slate = shown.entry(slot.slate).or_default();
                assert_eq!(slate.len(), usize::from(slot.position), "impressions stand in slot order");
                slate.push(e.item);
            }
            (EventKind::Impression, None) => panic!("an impression without a slate"),
            (kind, slot) => {
                assert!(last.insert(e.user, e.occurred_at) < Some(e.occurred_at), "interactions of one user never tie");
                if let Some(slot) = slot {
                    assert_eq!(shown[&slot.slate][usize::from(slot.position)], e.item);
                    clicks += u32::from(kind == EventKind::Click);
                } else {
                    found += u32::from(kind == EventKind::Click);
                }
            }
        }
    }
    assert!(shown.values().all(|slate| slate.len() == SLATE && slate.iter().collect::<HashSet<_>>().len() == SLATE));
    let rate = f64::from(clicks) / (shown.len() * SLATE) as f64;
    eprintln!("{} slates, click rate {rate:.4}, {found} found", shown.len());
    assert!((0.05..0.12).contains(&rate), "click rate {rate}");
    assert!(found > 1_000);
    let titles: HashSet<_> = data.items.iter().map(|i| &i.title).collect();
    assert_eq!(titles.len(), data.items.len());
    assert!(
        data.items.iter().all(|i| i.created_at.unwrap() <= WorldConfig::default().catalogue_at && i.price.unwrap() > 0)
    );

    let dir = tempfile::tempdir().unwrap();
    data.save(dir.path()).unwrap();
    assert!(Dataset::load(dir.path()).unwrap() == *data);
}

#[test]
fn small_and_odd_worlds_work() {
    for (items, users, categories) in [(1, 1, 2), (3, 1, 16), (25, 4, 2)] {
        let world = World::new(WorldConfig { items, users, categories, ..WorldConfig::default() }).unwrap();
        let slate = world.oracle_slate(9, Context::DEFAULT, 100);
        assert_eq!(slate.len(), items as usize);
        assert_eq!(world.click_probability(0, Context::DEFAULT, ItemIx::UNKNOWN, 0), 0.0);
        assert_eq!(world.expected_ctr(0, Context::DEFAULT, &[]), 0.0);
        assert!(world.visitor(0, 1).react(&world, &[ItemIx::UNKNOWN], Context::DEFAULT).actions.is_empty());
        world.history(&SubjectKey::new(1, [7; 32]), NOW, 2);
        assert_eq!(world.find(world.items()[0].id.as_str()), Some(ItemIx(0)));
    }
    for (items, users, categories) in [(0, 1, 2), (1, 0, 2), (1, 1, 1), (1, 1, 17)] {
        assert!(World::new(WorldConfig { items, users, categories, ..WorldConfig::default() }).is_err());
    }
    assert!(examination(0) == 1.0);
}
