//! What the edge computes for a hit, 400 candidates out of 10,000 items of 128 coordinates; `f32` rows are the peer.

use attune_inference::{CompactRows, Query, beta_draws, gather_dot, posterior_columns, sigmoid_lines};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const ITEMS: u32 = 10_000;
const DIM: usize = 128;
const CANDIDATES: usize = 400;

fn edge(c: &mut Criterion) {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let rows: Vec<f32> = (0..ITEMS as usize * DIM).map(|_| next()).collect();
    let user: Vec<f32> = (0..DIM).map(|_| next()).collect();
    let mut compact = CompactRows::new(DIM, 2);
    rows.chunks(DIM).for_each(|row| compact.push(row));
    let lists: Vec<Vec<u32>> =
        (0..600).map(|_| (0..CANDIDATES).map(|_| ((next() + 0.5) * ITEMS as f32) as u32 % ITEMS).collect()).collect();
    let mut lists = lists.iter().cycle();
    let mut list = || lists.next().expect("a cycle does not end");
    let (mut out, mut products) = (vec![0.0; CANDIDATES], vec![0; CANDIDATES]);
    let (mut query, mut seed) = (Query::default(), 0);

    let mut group = c.benchmark_group("400 candidates");
    group.bench_function("products of f32 rows", |b| {
        b.iter(|| gather_dot(&rows, DIM, &user, list(), black_box(&mut out)));
    });
    group.bench_function("products of byte rows", |b| {
        b.iter(|| {
            compact.query(&user, &mut query);
            compact.products(&query, list(), black_box(&mut products));
        });
    });
    let (offsets, scales) = (vec![-2.0; CANDIDATES], vec![0.01; CANDIDATES]);
    group.bench_function("sigmoids", |b| {
        b.iter(|| sigmoid_lines(&offsets, 7e-6, &scales, &products, black_box(&mut out)));
    });
    let (rates, counts) = (vec![0.05; CANDIDATES], vec![[10.0, 1.0]; CANDIDATES]);
    let mut columns = [vec![0.0; CANDIDATES], vec![0.0; CANDIDATES], vec![0.0; CANDIDATES], vec![0.0; CANDIDATES]];
    let [alpha, beta, lift, means] = &mut columns;
    group.bench_function("posteriors", |b| {
        b.iter(|| posterior_columns(30.0, &rates, &counts, &rates, alpha, beta, lift, black_box(&mut *means)));
    });
    group.bench_function("draws", |b| {
        b.iter(|| {
            seed += 1;
            beta_draws(seed, list(), alpha, beta, black_box(&mut out));
        });
    });
    group.finish();
}

criterion_group!(benches, edge);
criterion_main!(benches);
