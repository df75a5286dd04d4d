//! States merge, survive as bytes, and do not care how the stream was cut.

use crate::world::{MINUTE, START, decided};
use attune_domain::{ItemIx, RequestId, Segment, Source};
use attune_insight::{
    Baselines, CatalogueItem, CheckpointError, Config, Decided, EmbeddingRead, FeatureBaseline, FeatureValue,
    Impression, Insight, Outcome, OutcomeKind, RecallAt, ShadowSearch, SlotKind, Surroundings, Window,
};
use proptest::prelude::*;
use std::time::Duration;

/// Two random words and a minute: enough to make any observation.
type Seed = (u64, u64, i64);

fn config() -> Config {
    let feature = FeatureBaseline { name: "age".into(), bounds: vec![0.25, 0.5], shares: vec![0.25, 0.25, 0.5] };
    let baselines = Baselines { features: vec![feature], embedding: vec![0.5; 4] };
    Config { baselines, ..Config::default() }
}

fn visitor(seed: &Seed) -> u64 {
    seed.0 % 40
}

fn observe(insight: &mut Insight, &(a, b, minute): &Seed) {
    let (visitor, at) = (a % 40, START + minute * MINUTE);
    let item = ItemIx((a >> 8) as u32 % 30);
    // A few requests a visitor, so that outcomes meet impressions, duplicates and the unknown.
    let mut request = [0; 16];
    request[0] = visitor as u8;
    request[1] = (a >> 16) as u8 % 3;
    let request = RequestId(request);
    let share = |bits: u64| (bits % 1_000) as f32 / 1_000.0;
    // A function of (request, item), as what was decided is.
    let facts = u64::from(item.0) * 7 + u64::from(request.0[1]) * 31 + visitor * 101;
    let decided = Decided {
        model: facts % 11,
        score: (facts % 5 > 0).then(|| share(facts * 13)),
        popularity: share(facts * 29),
        propensity: (facts % 3 == 0).then_some(0.02 / (1.0 + (facts % 50) as f32)),
        item_age: (facts % 4 != 0).then(|| Duration::from_secs(facts * 3_000)),
        category: (facts % 6) as u16,
        position: (facts % 12) as u16,
        ideal_position: (facts % 10) as u16,
        arm: (facts % 9) as u8,
        kind: [SlotKind::Exploit, SlotKind::Explore, SlotKind::Uniform][(facts % 3) as usize],
        source: Source::from_code((facts % 5 == 0).into()).unwrap(),
        segment: Segment::from_code((facts % 4) as u8).unwrap(),
        seen_before: facts % 2 == 0,
        ..decided(START + (facts % 25) as i64 * MINUTE, visitor)
    };
    let known = ((b >> 8) % 3 == 0).then_some(decided);
    let mut act = |kind| insight.outcome(&Outcome { at, request, item, visitor, kind, decided: known });
    match b % 10 {
        0..=2 => insight.impression(&Impression { at, request, item, decided }),
        3 => act(OutcomeKind::Click),
        4 => act(OutcomeKind::Conversion(share(facts) * 1e4)),
        5 => act(OutcomeKind::Dwell(share(facts) * 100.0)),
        6 => act(OutcomeKind::Like),
        7 => {
            let value = (b % 7 != 0).then(|| share(b >> 20));
            insight.features(at, &[FeatureValue { feature: 0, value, unseen: b % 9 == 0 }]);
        }
        8 => {
            let vector = [share(b), share(b >> 7), share(b >> 14), share(b >> 21)];
            let found = (b % 5 != 0).then_some((Duration::from_secs((b >> 9) % 900), &vector[..]));
            insight.embedding(&EmbeddingRead { at, visitor, segment: Segment::Casual, found });
        }
        _ => insight.shadow_search(&ShadowSearch { at, model: b % 11, k: RecallAt::Hundred, recall: share(b >> 9) }),
    }
}

fn fed(seeds: &[Seed], take: impl Fn(&Seed) -> bool) -> Insight {
    let mut insight = Insight::new(config(), START + 10 * MINUTE).unwrap();
    for (i, seed) in seeds.iter().enumerate() {
        // Time passes for everybody.
        insight.advance(START + 10 * MINUTE + i as i64 * 5_000);
        if take(seed) {
            observe(&mut insight, seed);
        }
    }
    insight
}

fn merged(parts: &[&Insight]) -> Insight {
    let mut all = parts[0].clone();
    parts[1..].iter().for_each(|part| all.merge(part));
    all
}

fn seeds() -> impl Strategy<Value = Vec<Seed>> {
    prop::collection::vec((any::<u64>(), any::<u64>(), 0i64..18), 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn partitions_by_visitor_merge_into_the_whole(seeds in seeds()) {
        let whole = fed(&seeds, |_| true);
        let [a, b, c] = [0, 1, 2].map(|part| fed(&seeds, |seed| visitor(seed) % 3 == part));
        let left = merged(&[&merged(&[&a, &b]), &c]);
        prop_assert_eq!(&left, &whole);
        prop_assert_eq!(&merged(&[&a, &merged(&[&b, &c])]), &whole);
        prop_assert_eq!(&merged(&[&c, &b, &a]), &whole);
        prop_assert_eq!(left.to_bytes(), whole.to_bytes());
        let catalogue: Vec<_> = (0..30).map(|i| CatalogueItem { item: ItemIx(i), created_at: Some(START) }).collect();
        let around = Surroundings { catalogue: &catalogue, posteriors: &[] };
        prop_assert_eq!(left.report(around), whole.report(around));
    }

    #[test]
    fn a_checkpoint_anywhere_changes_nothing(seeds in seeds(), cut in 0usize..400) {
        let cut = cut.min(seeds.len());
        let mut insight = Insight::new(config(), START + 10 * MINUTE).unwrap();
        seeds[..cut].iter().for_each(|seed| observe(&mut insight, seed));
        let mut restored = Insight::from_bytes(config(), &insight.to_bytes()).unwrap();
        prop_assert_eq!(&restored, &insight);
        for seed in &seeds[cut..] {
            observe(&mut insight, seed);
            observe(&mut restored, seed);
        }
        prop_assert_eq!(restored, insight);
    }

    #[test]
    fn order_of_arrival_does_not_matter(mut seeds in seeds(), by in any::<u64>()) {
        let report = |seeds: &[Seed]| {
            let mut insight = Insight::new(config(), START + 10 * MINUTE).unwrap();
            seeds.iter().for_each(|seed| observe(&mut insight, seed));
            let mut report = insight.report(Surroundings::default());
            // How outcomes found their decision does depend on it.
            report.join.counts = Default::default();
            report
        };
        let straight = report(&seeds);
        seeds.sort_by_key(|seed| (seed.0 ^ by).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        prop_assert_eq!(report(&seeds), straight);
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused() {
    let seeds: Vec<Seed> =
        (0..300).map(|i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), i * 77, (i % 18) as i64)).collect();
    let insight = fed(&seeds, |_| true);
    let mut bytes = insight.to_bytes();
    let mut other = config();
    other.windows.effect = Window::minutes(1, 60);
    assert_eq!(Insight::from_bytes(other, &bytes), Err(CheckpointError::Windows));
    assert_eq!(Insight::from_bytes(config(), &[]), Err(CheckpointError::Damaged));
    let mut rebased = config();
    rebased.baselines.embedding = vec![1.0; 4];
    let rebased = Insight::from_bytes(rebased, &bytes).unwrap().report(Surroundings::default());
    assert!(
        !rebased.embedding.coverage.is_known()
            && rebased.by_source == insight.report(Surroundings::default()).by_source
    );
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(Insight::from_bytes(config(), &bytes), Err(CheckpointError::Damaged));
    bytes[0] = 9;
    assert_eq!(Insight::from_bytes(config(), &bytes), Err(CheckpointError::Format));
}

#[test]
fn windows_slide_and_memory_does_not_grow() {
    let mut insight = Insight::new(config(), START).unwrap();
    let mut sizes = Vec::new();
    for minute in 0..10 * 24 * 60 / 7 {
        let at = START + minute * 7 * MINUTE;
        insight.advance(at);
        for visitor in 0..10u64 {
            let mut request = [0; 16];
            request[..8].copy_from_slice(&minute.to_be_bytes());
            request[8] = visitor as u8;
            let decided = decided(at, visitor);
            insight.impression(&Impression { at, request: RequestId(request), item: ItemIx(visitor as u32), decided });
        }
        sizes.push(insight.size_bytes());
    }
    let report = insight.report(Surroundings::default());
    // Twelve sub-windows of 5 minutes, the last of them under way.
    assert!((80..=90).contains(&report.by_source[0].ctr.samples), "{:?}", report.by_source[0].ctr);
    let (early, late) = (sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
    assert!(late < early + early / 5, "{early} then {late}");
    assert!(insight.to_bytes().len() < 2 * late, "{} for {late}", insight.to_bytes().len());
}

#[test]
fn a_busy_day_stays_within_its_bound() {
    // 24 hours of what a busy partition sees in each: 40 000 impressions of 20 000 items by 10 000 visitors, 40 features.
    let feature = |i: usize| FeatureBaseline {
        name: format!("f{i}"),
        bounds: (1..20).map(|b| b as f32 / 20.0).collect(),
        shares: vec![0.05; 20],
    };
    let baselines = Baselines { features: (0..40).map(feature).collect(), embedding: vec![0.5; 128] };
    let mut insight = Insight::new(Config { baselines, ..Config::default() }, START).unwrap();
    let mut word = 1u64;
    let mut next = || {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        word >> 33
    };
    let share = |bits: u64| (bits % 1_000) as f32 / 1_000.0;
    for i in 0..24 * 40_000i64 {
        let at = START + i * 90;
        insight.advance(at);
        let visitor = next() % 10_000;
        let decided = Decided {
            model: next() % 8,
            score: Some(share(next()).powi(3)),
            popularity: share(next()).powi(4),
            category: (next() % 300) as u16,
            position: (next() % 20) as u16,
            ideal_position: (next() % 20) as u16,
            arm: (next() % 256) as u8,
            kind: if next() % 50 == 0 { SlotKind::Uniform } else { SlotKind::Exploit },
            propensity: Some(1e-4),
            ..decided(at, visitor)
        };
        let request = RequestId((i as u128).to_be_bytes());
        insight.impression(&Impression { at, request, item: ItemIx((next() % 20_000) as u32), decided });
        if i % 10 == 0 {
            let values = [0; 40].map(|_| next());
            let values: Vec<_> = (0..40)
                .map(|f| FeatureValue { feature: f, value: Some(share(values[usize::from(f)])), unseen: false })
                .collect();
            insight.features(at, &values);
            let vector = [share(next()); 128];
            let found = Some((Duration::from_secs(next() % 900), &vector[..]));
            insight.embedding(&EmbeddingRead { at, visitor, segment: Segment::Active, found });
        }
    }
    let (size, bytes) = (insight.size_bytes(), insight.to_bytes().len());
    println!("a busy day: {:.1} MB of state, {:.1} MB as a checkpoint", size as f64 / 1e6, bytes as f64 / 1e6);
    assert!(size < 40_000_000 && bytes < size, "{size} {bytes}");
}
