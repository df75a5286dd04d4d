//! Requests, errors, durations: the same metrics for every service, under the contract's names.
//!
//! Always holds: every series is there from the start, at zero, so that its first event is an increase.

use crate::catalogue::names::{EDGE_ERRORS, EDGE_LATENCY, EDGE_REQUESTS};
use crate::catalogue::{self, Service, status_text};
use crate::grpc::{CODES, code_name, is_failure};
use crate::{Counter, Gauge, Histogram, Span, Telemetry};
use attune_domain::CacheStatus;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// RED metrics of a gRPC service: `<prefix>_requests_total{endpoint,status_code}`, `<prefix>_errors_total{endpoint,code}`,
/// `<prefix>_latency_seconds{endpoint}` and `<prefix>_concurrent_requests{endpoint}`. Endpoints come from the method table.
#[derive(Clone)]
pub struct Red(Arc<HashMap<&'static str, Endpoint>>);

struct Endpoint {
    latency: Histogram,
    in_flight: Gauge,
    /// In the order of [`CODES`].
    codes: [(Counter, Option<Counter>); CODES.len()],
}

impl Red {
    /// A service that is not in the catalogue has none.
    pub fn new(telemetry: &Telemetry, endpoints: impl IntoIterator<Item = &'static str>) -> Self {
        let metrics = telemetry.metrics();
        let Some(entries) = Service::of(telemetry.info().service).and_then(catalogue::red) else {
            return Self(Arc::default());
        };
        let code = |endpoint, code| {
            let requests = metrics.counter(&entries.requests, &[endpoint, status_text(code)]);
            let errors = is_failure(code).then(|| metrics.counter(&entries.errors, &[endpoint, code_name(code)]));
            (requests, errors)
        };
        let make = |endpoint| Endpoint {
            latency: metrics.histogram(&entries.latency, &[endpoint]),
            in_flight: metrics.gauge(&entries.concurrent, &[endpoint]),
            codes: CODES.map(|each| code(endpoint, each)),
        };
        Self(Arc::new(endpoints.into_iter().map(|endpoint| (endpoint, make(endpoint))).collect()))
    }

    pub(crate) fn begin(&self, endpoint: &'static str) {
        if let Some(found) = self.0.get(endpoint) {
            found.in_flight.inc();
        }
    }

    /// Call before the span ends, so that a kept trace becomes the bucket's exemplar.
    pub(crate) fn record(&self, endpoint: &'static str, code: Code, elapsed: Duration, span: &Span) {
        let Some(found) = self.0.get(endpoint) else { return };
        found.in_flight.dec();
        found.latency.observe_in(span, elapsed.as_secs_f64());
        // A code's number is its place in the list.
        if let Some((requests, errors)) = found.codes.get(code as usize) {
            requests.inc();
            if let Some(errors) = errors {
                errors.inc();
            }
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
        let [hit, miss, none] = ["hit", "miss", "none"].map(|cache| metrics.counter(&EDGE_REQUESTS, &[pop, cache]));
        Self {
            hit,
            miss,
            none,
            errors: metrics.counter(&EDGE_ERRORS, &[pop]),
            latency: metrics.histogram(&EDGE_LATENCY, &[pop]),
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
