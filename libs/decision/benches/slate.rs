//! A slate of 20 out of 280 candidates, as a hit chooses it; sorting the candidates once is the peer.

use attune_decision::{Choice, Policy, Posteriors, Sampler, Scratch, choose};
use attune_domain::{ItemIx, PosteriorCounts, PosteriorSnapshot};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const ITEMS: u32 = 10_000;
const CANDIDATES: usize = 280;
const LIMIT: usize = 20;

struct Visitor {
    items: Vec<u32>,
    base_rates: Vec<f32>,
    scores: Vec<f32>,
}

fn slate(c: &mut Criterion) {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let categories: Vec<u16> = (0..ITEMS).map(|_| (next() * 19.0) as u16).collect();
    let counts = (0..ITEMS)
        .map(|ix| PosteriorCounts { item: ItemIx(ix), impressions: 100.0 * next(), rewards: 5.0 * next() })
        .collect();
    let posteriors = Posteriors::new(&PosteriorSnapshot { counts }, [1; 16]);
    let visitors: Vec<Visitor> = (0..600)
        .map(|_| Visitor {
            items: (0..CANDIDATES).map(|_| (next() * ITEMS as f32) as u32 % ITEMS).collect(),
            base_rates: (0..CANDIDATES).map(|_| 0.02 + 0.2 * next() * next()).collect(),
            scores: (0..CANDIDATES).map(|_| 0.4 * next() * next() * next()).collect(),
        })
        .collect();
    let mut cycle = visitors.iter().cycle();
    let mut visitor = || cycle.next().expect("a cycle does not end");

    let mut group = c.benchmark_group("280 candidates");
    let (mut scratch, mut seed) = (Scratch::default(), 0);
    group.bench_function("slate of 20", |b| {
        b.iter(|| {
            let Visitor { items, scores, base_rates } = visitor();
            let choice = Choice { items, scores, base_rates, categories: &categories };
            seed += 1;
            black_box(choose(&Policy::DEFAULT, Sampler::Fast, seed, LIMIT, choice, &posteriors, &mut scratch))
        });
    });
    let mut sorted: Vec<(f32, u32)> = Vec::new();
    group.bench_function("sorted once", |b| {
        b.iter(|| {
            let Visitor { items, scores, .. } = visitor();
            sorted.clear();
            sorted.extend(scores.iter().copied().zip(items.iter().copied()));
            sorted.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            black_box(sorted[LIMIT])
        });
    });
    group.finish();
}

criterion_group!(benches, slate);
criterion_main!(benches);
