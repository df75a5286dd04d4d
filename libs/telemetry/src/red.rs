//! Requests, errors, durations: the same three metrics for every service, under the contract's names.

use crate::{Counter, Histogram, LATENCY_BUCKETS, LLM_LATENCY_BUCKETS, Span, Telemetry};
use attune_domain::CacheStatus;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// RED metrics of a gRPC service: `<prefix>_requests_total{endpoint,status_code}`, `<prefix>_errors_total{endpoint,code}`
/// and `<prefix>_latency_seconds{endpoint}`. Endpoints come from the method table and are bound at start.
#[derive(Clone)]
pub struct Red(Arc<Inner>);

struct Inner {
    telemetry: Telemetry,
    endpoints: HashMap<&'static str, Endpoint>,
}

struct Endpoint {
    latency: Histogram,
    in_flight: crate::Gauge,
    /// By gRPC code, filled when first seen; at most 17.
    codes: RwLock<HashMap<tonic::Code, (Counter, Option<Counter>)>>,
}

impl Red {
    pub fn new(telemetry: &Telemetry, endpoints: impl IntoIterator<Item = &'static str>) -> Self {
        let prefix = telemetry.info().metric_prefix();
        let metrics = telemetry.metrics();
        let names = Names::of(prefix);
        let bounds = if prefix == "llm" { LLM_LATENCY_BUCKETS } else { LATENCY_BUCKETS };
        let make = |endpoint| Endpoint {
            latency: metrics.histogram(names.latency, "Duration of requests.", bounds, &[("endpoint", endpoint)]),
            in_flight: metrics.gauge(names.concurrent, "Requests in progress.", &[("endpoint", endpoint)]),
            codes: RwLock::default(),
        };
        let endpoints = endpoints.into_iter().map(|endpoint| (endpoint, make(endpoint))).collect();
        let red = Self(Arc::new(Inner { telemetry: telemetry.clone(), endpoints }));
        for endpoint in red.0.endpoints.keys() {
            red.counters(endpoint, tonic::Code::Ok, |_, _| {});
            red.counters(endpoint, tonic::Code::Internal, |_, _| {});
        }
        red
    }

    pub(crate) fn begin(&self, endpoint: &'static str) {
        if let Some(found) = self.0.endpoints.get(endpoint) {
            found.in_flight.inc();
        }
    }

    /// Call before the span ends, so that a kept trace becomes the bucket's exemplar.
    pub(crate) fn record(&self, endpoint: &'static str, code: tonic::Code, elapsed: Duration, span: &Span) {
        if let Some(found) = self.0.endpoints.get(endpoint) {
            found.in_flight.dec();
            found.latency.observe_in(span, elapsed.as_secs_f64());
        }
        self.counters(endpoint, code, |requests, errors| {
            requests.inc();
            if let Some(errors) = errors {
                errors.inc();
            }
        });
    }

    fn counters(&self, endpoint: &'static str, code: tonic::Code, then: impl FnOnce(&Counter, Option<&Counter>)) {
        let Some(found) = self.0.endpoints.get(endpoint) else { return };
        if let Some((requests, errors)) = found.codes.read().get(&code) {
            return then(requests, errors.as_ref());
        }
        let mut codes = found.codes.write();
        let (requests, errors) = codes.entry(code).or_insert_with(|| {
            let names = Names::of(self.0.telemetry.info().metric_prefix());
            let metrics = self.0.telemetry.metrics();
            let status = crate::grpc::http_status(code).to_string();
            let labels = [("endpoint", endpoint), ("status_code", status.as_str())];
            let requests = metrics.counter(names.requests, "Requests by outcome.", &labels);
            let errors = crate::grpc::is_failure(code).then(|| {
                let labels = [("endpoint", endpoint), ("code", crate::grpc::code_name(code))];
                metrics.counter(names.errors, "Requests that failed through our fault.", &labels)
            });
            (requests, errors)
        });
        then(requests, errors.as_ref());
    }
}

struct Names {
    requests: &'static str,
    errors: &'static str,
    latency: &'static str,
    concurrent: &'static str,
}

macro_rules! names {
    ($prefix:literal) => {
        Names {
            requests: concat!($prefix, "_requests_total"),
            errors: concat!($prefix, "_errors_total"),
            latency: concat!($prefix, "_latency_seconds"),
            concurrent: concat!($prefix, "_concurrent_requests"),
        }
    };
}

impl Names {
    fn of(prefix: &str) -> Self {
        match prefix {
            "edge" => names!("edge"),
            "api" => names!("api"),
            "retrieval" => names!("retrieval"),
            "ranking" => names!("ranking"),
            "bandit" => names!("bandit"),
            "llm" => names!("llm"),
            "embedder" => names!("embedder"),
            _ => names!("service"),
        }
    }
}

/// RED metrics of the edge, which speaks HTTP: `edge_requests_total{pop,cache}`, `edge_errors_total{pop}` and
/// `edge_latency_seconds{pop}`.
#[derive(Clone)]
pub struct EdgeRed {
    hit: Counter,
    miss: Counter,
    none: Counter,
    errors: Counter,
    latency: Histogram,
}

impl EdgeRed {
    pub fn new(telemetry: &Telemetry, pop: &str) -> Self {
        let metrics = telemetry.metrics();
        let requests = |cache| {
            metrics.counter("edge_requests_total", "Requests by cache outcome.", &[("pop", pop), ("cache", cache)])
        };
        Self {
            hit: requests("hit"),
            miss: requests("miss"),
            none: requests("none"),
            errors: metrics.counter("edge_errors_total", "Requests answered with 5xx.", &[("pop", pop)]),
            latency: metrics.histogram("edge_latency_seconds", "Duration of requests.", LATENCY_BUCKETS, &[(
                "pop", pop,
            )]),
        }
    }

    /// `cache` is None for what is not cached at all. Call before the root span ends.
    pub fn record(&self, cache: Option<CacheStatus>, status: u16, elapsed: Duration, span: &Span) {
        match cache {
            Some(CacheStatus::Hit) => self.hit.inc(),
            Some(CacheStatus::Miss) => self.miss.inc(),
            None => self.none.inc(),
        }
        if status >= 500 {
            self.errors.inc();
        }
        self.latency.observe_in(span, elapsed.as_secs_f64());
    }
}
