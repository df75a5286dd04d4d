//! What recording costs a request, against the OpenTelemetry SDK and the `tracing` bridge at 100 % in the same run.
//!
//! `cargo bench -p attune-telemetry --bench recorder`. First a table of interleaved rounds (median, and the 10th and 90th
//! percentile, in wall nanoseconds of one thread, with heap allocations), then Criterion's own figures.

use attune_domain::RequestId;
use attune_telemetry::catalogue::names::EDGE_LATENCY;
use attune_telemetry::{Class, Kind, LogTarget, Name, ServiceInfo, Span, Telemetry, TelemetryConfig, TraceParent};
use criterion::{Criterion, Throughput};
use http::{HeaderMap, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tracing_subscriber::layer::SubscriberExt as _;

/// Counts the allocations of the thread that asks.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator that counts is the only way to count allocations")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SPANS: usize = 10;

fn telemetry(service: &'static str) -> (Telemetry, attune_telemetry::Guard) {
    let config = TelemetryConfig { logs: LogTarget::Off, ..TelemetryConfig::default() };
    let info = ServiceInfo { service, version: "1", instance: "bench".into() };
    let begun = Instant::now();
    let clock = Arc::new(move || 1_769_682_600_123 + begun.elapsed().as_millis() as i64);
    Telemetry::start(&config, info, clock).expect("telemetry without files starts")
}

/// Ids as an edge makes them, one in a hundred of them sampled.
fn ids() -> impl FnMut() -> RequestId {
    let mut state = 20_261_125u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut random = [0; 10];
        random[2..].copy_from_slice(&(state ^ state >> 29).to_be_bytes());
        RequestId::new(1_769_682_600_123, random)
    }
}

/// One local root with nine children, each with five attributes.
fn ten_spans(telemetry: &Telemetry, id: RequestId, describe: impl Fn(&Span)) {
    let root = telemetry.root("api.personalize", Kind::Server, None, id);
    describe(&root);
    for _ in 1..SPANS {
        let child = root.child("context.build");
        describe(&child);
        child.end();
    }
    root.end();
}

fn one_by_one(span: &Span) {
    span.set("tier", "origin");
    span.set("user_segment", "returning");
    span.set("feature_count", 42u32);
    span.set("cache_hit", true);
    span.set("propensity", 0.25f64);
}

fn together(span: &Span) {
    span.with(|span| {
        span.set("tier", "origin")
            .set("user_segment", "returning")
            .set("feature_count", 42u32)
            .set("cache_hit", true)
            .set("propensity", 0.25f64);
    });
}

/// What the edge records of a page that it answers itself.
fn edge_hit(
    telemetry: &Telemetry,
    latency: &attune_telemetry::Histogram,
    pop: &Name,
    headers: &HeaderMap,
    id: RequestId,
) {
    let root = telemetry.admit("edge.personalize", Kind::Server, headers, id);
    root.with(|span| {
        span.set("pop_location", pop).set("http.request.method", "POST");
    });
    let lookup = root.child("edge.cache_lookup");
    lookup.with(|span| {
        span.set("key", 77i64).set("hit", true);
    });
    lookup.end();
    let scoring = root.child("edge.score");
    scoring.set("model_version", pop);
    scoring.end();
    root.with(|span| {
        span.set("cache_hit", true)
            .set("tier", "edge")
            .set("level", 0i64)
            .set("http.route", "/v1/personalize")
            .set("network.protocol.version", "1.1")
            .set("http.response.status_code", 200i64);
    });
    latency.observe_in(&root, root.elapsed().as_secs_f64());
    root.end();
}

#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        black_box(batch);
        Ok(())
    }
}

fn sdk() -> (SdkTracerProvider, SdkTracer) {
    let provider = SdkTracerProvider::builder().with_batch_exporter(Nowhere).build();
    let tracer = provider.tracer("attune");
    (provider, tracer)
}

fn sdk_ten_spans(tracer: &SdkTracer) {
    let attributes = || {
        [
            KeyValue::new("tier", "origin"),
            KeyValue::new("user_segment", "returning"),
            KeyValue::new("feature_count", 42i64),
            KeyValue::new("cache_hit", true),
            KeyValue::new("propensity", 0.25f64),
        ]
    };
    let start = |name: &'static str, parent: &Context| {
        let mut span = tracer.span_builder(name).with_kind(SpanKind::Internal).start_with_context(tracer, parent);
        for attribute in attributes() {
            opentelemetry::trace::Span::set_attribute(&mut span, attribute);
        }
        span
    };
    let root = Context::new().with_span(start("api.personalize", &Context::new()));
    for _ in 1..SPANS {
        opentelemetry::trace::Span::end(&mut start("context.build", &root));
    }
    root.span().end();
}

fn bridge_ten_spans() {
    macro_rules! span {
        ($name:literal) => {
            tracing::info_span!(
                $name,
                tier = "origin",
                user_segment = "returning",
                feature_count = 42u32,
                cache_hit = true,
                propensity = 0.25f64
            )
        };
    }
    span!("api.personalize").in_scope(|| {
        for _ in 1..SPANS {
            span!("context.build").in_scope(|| black_box(()));
        }
    });
}

struct Headers(HeaderMap);

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(key), HeaderValue::from_str(&value)) {
            self.0.insert(name, value);
        }
    }
}

/// Headers as one of our gRPC calls has them.
fn call_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "tonic/0.14"),
        ("grpc-timeout", "120000u"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03"),
        ("tracestate", "ot=th:fd70a4"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}

struct Case<'a> {
    name: &'static str,
    /// What a figure is divided by.
    per: usize,
    run: Box<dyn FnMut() + 'a>,
}

/// Rounds of all cases in turn, so that what else the machine does falls on all of them.
fn table(cases: &mut [Case<'_>]) {
    const ROUNDS: usize = 101;
    const RUNS: usize = 1000;
    let mut times = vec![Vec::with_capacity(ROUNDS); cases.len()];
    let mut allocations = vec![0; cases.len()];
    for round in 0..ROUNDS + 5 {
        for (at, case) in cases.iter_mut().enumerate() {
            let before = ALLOCATIONS.get();
            let begun = Instant::now();
            (0..RUNS).for_each(|_| (case.run)());
            let took = begun.elapsed().as_nanos() as f64;
            // The first rounds fill caches and pools.
            if round >= 5 {
                times[at].push(took / (RUNS * case.per) as f64);
                allocations[at] += ALLOCATIONS.get() - before;
            }
        }
    }
    println!("{:<58}{:>9}{:>9}{:>9}{:>13}", "", "p10 ns", "median", "p90", "allocations");
    for ((case, times), allocations) in cases.iter().zip(&mut times).zip(allocations) {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[(share * (ROUNDS - 1) as f64) as usize];
        let each = allocations as f64 / (ROUNDS * RUNS * case.per) as f64;
        println!("{:<58}{:>9.1}{:>9.1}{:>9.1}{:>13.3}", case.name, at(0.1), at(0.5), at(0.9), each);
    }
}

fn main() {
    let (origin, _origin_guard) = telemetry("origin");
    let (edge, _edge_guard) = telemetry("edge");
    let (_provider, tracer) = sdk();
    let (bridge_provider, bridge_tracer) = sdk();
    let subscriber = tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(bridge_tracer));
    let _subscriber = tracing::subscriber::set_default(subscriber);

    let latency = edge.metrics().histogram(&EDGE_LATENCY, &["sfo"]);
    let pop = Name::new("eu-west-1").expect("a name");
    let mut visitor = HeaderMap::new();
    for (name, value) in [("host", "a.test"), ("content-type", "application/json"), ("content-length", "120")] {
        visitor.insert(name, HeaderValue::from_static(value));
    }
    let headers = call_headers();
    let propagator = TraceContextPropagator::new();
    let carried = Headers(headers.clone());
    let mut sdk_out = Headers(HeaderMap::new());
    let mut out = HeaderMap::new();
    let root = origin.root("api.personalize", Kind::Server, TraceParent::extract(&headers), RequestId::default());
    root.mark(Class::Llm);
    let sdk_parent = propagator.extract_with_context(&Context::new(), &carried);

    let (mut a, mut b, mut c) = (ids(), ids(), ids());
    let mut cases = [
        Case {
            name: "ten spans, 5 attributes one by one, per span",
            per: SPANS,
            run: Box::new(|| ten_spans(&origin, a(), one_by_one)),
        },
        Case {
            name: "ten spans, 5 attributes together, per span",
            per: SPANS,
            run: Box::new(|| ten_spans(&origin, b(), together)),
        },
        Case {
            name: "ten spans, OpenTelemetry SDK, 100 % to a batch, per span",
            per: SPANS,
            run: Box::new(|| sdk_ten_spans(&tracer)),
        },
        Case { name: "ten spans, tracing-opentelemetry, 100 %, per span", per: SPANS, run: Box::new(bridge_ten_spans) },
        Case {
            name: "edge hit: admit, 3 spans, 11 attributes, exemplar",
            per: 1,
            run: Box::new(|| edge_hit(&edge, &latency, &pop, &visitor, c())),
        },
        Case {
            name: "extract",
            per: 1,
            run: Box::new(|| {
                black_box(TraceParent::extract(black_box(&headers)));
            }),
        },
        Case {
            name: "extract, OpenTelemetry SDK",
            per: 1,
            run: Box::new(|| {
                black_box(propagator.extract_with_context(&Context::new(), black_box(&carried)));
            }),
        },
        Case { name: "inject", per: 1, run: Box::new(|| root.inject(black_box(&mut out))) },
        Case {
            name: "inject, OpenTelemetry SDK",
            per: 1,
            run: Box::new(|| propagator.inject_context(black_box(&sdk_parent), &mut sdk_out)),
        },
    ];
    table(&mut cases);

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("recorder");
    for case in &mut cases {
        group.throughput(Throughput::Elements(case.per as u64));
        group.bench_function(case.name, |bencher| bencher.iter(&mut case.run));
    }
    group.finish();
    criterion.final_summary();
    drop(cases);
    drop(bridge_provider);
}
