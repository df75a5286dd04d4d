//! What a log line costs its thread, beside `tracing-subscriber`'s JSON with the same fields, and what a request costs
//! whose line is not written.
//!
//! Ours hands its lines to the writer thread, which discards them; the peer's copies them under a lock. Run: `cargo bench -p attune-telemetry --bench log`.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use attune_config::Secret;
use attune_domain::{Device, Geo, Level, PageType, RequestId, Tier, Uid};
use attune_telemetry::*;
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NOW: i64 = 1_769_682_600_123;

fn telemetry(request_logs: RequestLogs) -> (Telemetry, Guard) {
    let config = TelemetryConfig {
        logs: LogTarget::File(PathBuf::from("/dev/null")),
        log_key: Some(Secret::new("key")),
        request_logs,
        ..TelemetryConfig::default()
    };
    let info = ServiceInfo { service: "edge", version: "1.2.3", instance: "pod-1".into() };
    Telemetry::start(&config, info, Arc::new(|| NOW)).unwrap()
}

fn complete(request_id: RequestId) -> PersonalizationComplete {
    PersonalizationComplete {
        request_id,
        user: Some(Uid([9; 17])),
        latency_ms: Duration::from_micros(45_250),
        candidates_retrieved: 500,
        candidates_ranked: 100,
        tier: Tier::Edge,
        cache_hit: true,
        level: Level::Fresh,
        device: Device::Mobile,
        geo: Geo::UsWest,
        page_type: PageType::Home,
    }
}

/// Times a thousand lines at a time and lets the writer catch up between, as in a service that is not flooded.
fn unhurried(bench: &mut Criterion, name: &str, guard: &Guard, mut line: impl FnMut()) {
    bench.bench_function(name, |b| {
        b.iter_custom(|mut rounds| {
            let mut spent = Duration::ZERO;
            while rounds > 0 {
                let batch = rounds.min(1000);
                let begun = Instant::now();
                (0..batch).for_each(|_| line());
                spent += begun.elapsed();
                rounds -= batch;
                assert!(guard.flush(Duration::from_secs(10)));
            }
            spent
        });
    });
}

fn lines(bench: &mut Criterion) {
    let (all, guard) = telemetry(RequestLogs::All);
    let root = all.root("edge.personalize", Kind::Server, None, RequestId([7; 16]));
    unhurried(bench, "request line, with its user hash", &guard, || {
        all.log_request(complete(black_box(RequestId([7; 16]))), &root);
    });
    let anonymous = PersonalizationComplete { user: None, ..complete(RequestId([7; 16])) };
    unhurried(bench, "request line, without a user", &guard, || all.log_request(black_box(anonymous), &root));
    bench.bench_function("user hash", |b| {
        b.iter(|| all.user_hash(Purpose::Logs, black_box(&Uid([9; 17])), NOW));
    });

    // A trace id whose randomness is zero is kept by no threshold.
    let (sampled, _guard) = telemetry(RequestLogs::Sampled);
    let root = || sampled.root("edge.personalize", Kind::Server, None, RequestId([0; 16]));
    bench.bench_function("trace of one span, dropped", |b| b.iter(|| root().end()));
    bench.bench_function("trace of one span with a request line, both dropped", |b| {
        b.iter(|| {
            let root = root();
            sampled.log_request(complete(black_box(RequestId([7; 16]))), &root);
            root.end();
        });
    });
}

fn peer(bench: &mut Criterion) {
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::sync::Mutex::new(Discard(Vec::with_capacity(FULL))))
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        bench.bench_function("tracing-subscriber JSON, the same fields without the hash", |b| {
            b.iter(|| {
                let event = complete(black_box(RequestId([7; 16])));
                tracing::info!(
                    severity_number = 9u64,
                    service = "edge",
                    service_version = "1.2.3",
                    instance = "pod-1",
                    boot_id = "0123456789abcdef",
                    seq = 1u64,
                    trace_id = %event.request_id,
                    span_id = "0123456789abcdef",
                    user_id_hash = "hmac-sha256:w2926:0123456789abcdefghijkl",
                    request_id = %event.request_id,
                    event = "personalization_complete",
                    latency_ms = event.latency_ms.as_secs_f64() * 1e3,
                    candidates_retrieved = event.candidates_retrieved,
                    candidates_ranked = event.candidates_ranked,
                    tier = event.tier.as_str(),
                    cache_hit = event.cache_hit,
                    level = event.level.code(),
                    device = event.device.as_str(),
                    geo = event.geo.as_str(),
                    page_type = event.page_type.as_str(),
                    sampled_weight = 1.0,
                );
            });
        });
    });
}

/// Copies into a buffer under a lock, as ours does; a full buffer is emptied.
struct Discard(Vec<u8>);

const FULL: usize = 1 << 20;

impl std::io::Write for Discard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > FULL {
            self.0.clear();
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

criterion_group!(benches, lines, peer);
criterion_main!(benches);
