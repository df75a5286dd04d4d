//! Bound handles on the hot path, beside the `prometheus` crate's own histogram.

use attune_telemetry::catalogue::names::{EDGE_CACHE_SIZE, EDGE_LATENCY, EDGE_USERS, PERSONALIZATION_LEVEL};
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::{Kind, LogTarget, ServiceInfo, Telemetry, TelemetryConfig};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn metrics(c: &mut Criterion) {
    let config = TelemetryConfig { logs: LogTarget::Off, sample_edge_only: 0.0, ..TelemetryConfig::default() };
    let info = ServiceInfo { service: "edge", version: "1", instance: "bench".into() };
    let (telemetry, _guard) =
        Telemetry::start(&config, info, Arc::new(|| 1_769_682_600_123)).expect("telemetry starts");
    let metrics = telemetry.metrics();
    let counter = metrics.counter(&PERSONALIZATION_LEVEL, &["0"]);
    c.bench_function("counter", |b| b.iter(|| black_box(&counter).inc()));
    let gauge = metrics.gauge(&EDGE_USERS, &[]);
    c.bench_function("gauge", |b| b.iter(|| black_box(&gauge).set(black_box(7.0))));
    metrics.gauge(&EDGE_CACHE_SIZE, &["sfo"]);

    let histogram = metrics.histogram(&EDGE_LATENCY, &["sfo"]);
    let mut value = values();
    c.bench_function("histogram", |b| b.iter(|| black_box(&histogram).observe(value())));
    // A trace takes a handful of observations, as a request does; its making and its end are not of the metric.
    c.bench_function("histogram with exemplar", |b| {
        b.iter_custom(|iterations| {
            const EACH: u64 = 4;
            let mut spent = Duration::ZERO;
            let empty = clock();
            for _ in 0..iterations.div_ceil(EACH) {
                let root = telemetry.root("edge.personalize", Kind::Server, None, telemetry.new_id());
                let values = [value(), value(), value(), value()];
                let begun = Instant::now();
                values.iter().for_each(|value| black_box(&histogram).observe_in(&root, *value));
                spent += begun.elapsed().saturating_sub(empty);
                root.end();
            }
            spent * u32::try_from(iterations).unwrap_or(1)
                / u32::try_from(iterations.div_ceil(EACH) * EACH).unwrap_or(1)
        });
    });

    let naive = prometheus::Histogram::with_opts(
        prometheus::HistogramOpts::new("naive", "x").buckets(attune_telemetry::catalogue::LATENCY_BUCKETS.to_vec()),
    )
    .expect("a valid histogram");
    c.bench_function("prometheus histogram", |b| b.iter(|| black_box(&naive).observe(value())));
    for threads in [2, 4] {
        c.bench_function(&format!("histogram, {threads} threads"), |b| {
            b.iter_custom(|iterations| together(threads, iterations, &|value| histogram.observe(value)));
        });
        c.bench_function(&format!("prometheus histogram, {threads} threads"), |b| {
            b.iter_custom(|iterations| together(threads, iterations, &|value| naive.observe(value)));
        });
    }
    c.bench_function("exposition", |b| {
        b.iter(|| encode(black_box(std::slice::from_ref(&telemetry)), Format::OpenMetrics))
    });
}

/// What two clock readings take.
fn clock() -> Duration {
    let begun = Instant::now();
    let reads = 1000;
    for _ in 0..reads {
        black_box(Instant::now());
    }
    begun.elapsed() / reads
}

/// Latencies over all buckets, from a generator of a nanosecond.
fn values() -> impl FnMut() -> f64 {
    let mut state = 20_261_125u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / 4e6
    }
}

/// Wall time in which every thread observes that often.
fn together(threads: usize, iterations: u64, observe: &(impl Fn(f64) + Sync)) -> Duration {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut value = values();
                (0..iterations).for_each(|_| observe(value()));
            });
        }
    });
    begun.elapsed()
}

criterion_group!(benches, metrics);
criterion_main!(benches);
