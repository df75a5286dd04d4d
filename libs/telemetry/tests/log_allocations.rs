//! A log line allocates nothing once its buffers have grown, and neither does a request whose line is not written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "a counting allocator")]

use attune_config::Secret;
use attune_domain::{Device, Geo, Level, PageType, RequestId, Tier, Uid};
use attune_telemetry::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; the count is a thread's own and needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn complete() -> PersonalizationComplete {
    PersonalizationComplete {
        request_id: RequestId([7; 16]),
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

fn telemetry(request_logs: RequestLogs) -> (Telemetry, Guard) {
    let config = TelemetryConfig {
        logs: LogTarget::File("/dev/null".into()),
        log_key: Some(Secret::new("key")),
        request_logs,
        ..TelemetryConfig::default()
    };
    let info = ServiceInfo { service: "edge", version: "1.2.3", instance: "pod-1".into() };
    Telemetry::start(&config, info, Arc::new(|| 1_769_682_600_123)).unwrap()
}

/// What a thousand rounds allocate on this thread after a hundred others.
fn counted(mut round: impl FnMut()) -> u64 {
    (0..100).for_each(|_| round());
    let before = COUNT.get();
    (0..1000).for_each(|_| round());
    COUNT.get() - before
}

#[test]
fn a_line_allocates_nothing() {
    let (telemetry, guard) = telemetry(RequestLogs::All);
    let root = telemetry.root("edge.personalize", Kind::Server, None, RequestId([7; 16]));
    let warn = ServiceCutOff { failure: Failure::Undrained };
    // The shared buffers keep up to a MiB, which is more than these lines need; both of them have to grow first.
    for _ in 0..3 {
        (0..1200).for_each(|_| telemetry.log_request(complete(), &root));
        assert!(guard.flush(Duration::from_secs(10)));
    }
    assert_eq!(counted(|| telemetry.log_request(complete(), &root)), 0);
    assert!(counted(|| telemetry.log(&warn, Some(&root))) == 0, "also where it is held back");
}

#[test]
fn a_request_without_a_line_allocates_nothing_for_it() {
    let (telemetry, _guard) = telemetry(RequestLogs::Sampled);
    // Randomness zero: no threshold keeps the trace.
    let root = || telemetry.root("edge.personalize", Kind::Server, None, RequestId([0; 16]));
    let without = counted(|| root().end());
    let with = counted(|| {
        let root = root();
        telemetry.log_request(complete(), &root);
        root.end();
    });
    assert!(with <= without, "{with} against {without}");
}
