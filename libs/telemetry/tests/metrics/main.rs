//! Metrics as a scraper sees them, in both formats, read back by a parser that takes nothing on trust.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exposition;

use attune_telemetry::catalogue::{self, Service, names};
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::*;
use exposition::{Exposition, parse};
use std::sync::Arc;

const NOW: i64 = 1_769_682_600_123;

fn telemetry(service: &'static str, sample: f64) -> (Telemetry, Guard) {
    let config = TelemetryConfig {
        logs: LogTarget::Off,
        sample_normal: sample,
        sample_edge_only: sample,
        ..TelemetryConfig::default()
    };
    let info = ServiceInfo { service, version: "1.2.3", instance: "pod-1".into() };
    Telemetry::start(&config, info, Arc::new(|| NOW)).unwrap()
}

fn both(services: &[Telemetry]) -> [Exposition; 2] {
    [Format::Text, Format::OpenMetrics].map(|format| {
        let text = encode(services, format);
        parse(&text, format).unwrap_or_else(|why| panic!("{format:?}: {why}\n{text}"))
    })
}

const HOME: &str = "/personalize";

#[test]
fn both_formats_read_back() {
    let (origin, _guard) = telemetry("origin", 1.0);
    let edge = origin.service(ServiceInfo { service: "edge", version: "1", instance: "i".into() });
    let red = catalogue::red(Service::Origin).unwrap();
    let latency = origin.metrics().histogram(&red.latency, &[HOME]);
    origin.metrics().histogram(&red.latency, &["/feedback"]);
    let root = origin.root("api.personalize", Kind::Server, None, origin.new_id());
    let stage = root.child("context.build");
    latency.observe_in(&stage, 0.12);
    latency.observe_in(&root, 99.0);
    latency.observe(0.15);
    latency.observe(f64::NAN);
    let place = (root.trace_id().to_string(), hex(&stage.traceparent().span_id));
    root.end();
    let version = origin.metrics().known_gauge(&names::MODEL_DEPLOYED, &["a\"b\\c\n"]);
    assert!(
        both(std::slice::from_ref(&origin))[0].value("model_deployed_timestamp_seconds", &[]).is_none(),
        "absent until known"
    );
    version.set(Some(0.5));

    let [text, open] = both(&[origin.clone(), edge.clone()]);
    for read in [&text, &open] {
        let bucket = |le| read.value("api_latency_seconds_bucket", &[("endpoint", HOME), ("le", le)]);
        assert_eq!([bucket("0.1"), bucket("0.15"), bucket("+Inf")], [Some(0.0), Some(2.0), Some(3.0)]);
        assert_eq!(read.value("api_latency_seconds_count", &[("endpoint", HOME)]), Some(3.0));
        assert_eq!(read.value("api_latency_seconds_sum", &[("endpoint", HOME)]), Some(0.12 + 99.0 + 0.15));
        assert_eq!(read.value("api_latency_seconds_count", &[("endpoint", "/feedback")]), Some(0.0));
        assert_eq!(read.value("model_deployed_timestamp_seconds", &[("model_version", "a\"b\\c\n")]), Some(0.5));
        let decisions = |service| {
            let labels = [("class", "normal"), ("verdict", "keep"), ("service", service)];
            read.value("trace_decisions_total", &labels)
        };
        assert_eq!([decisions("origin"), decisions("edge")], [Some(1.0), Some(0.0)]);
    }
    assert!(text.exemplars.is_empty(), "the text format has no room for them");
    let exemplars: Vec<_> = open.exemplars.iter().map(|e| (e.labels["trace_id"].clone(), e.value)).collect();
    assert_eq!(exemplars, [(place.0.clone(), 0.12), (place.0.clone(), 99.0)]);
    assert_eq!(open.exemplars[0].labels["span_id"], place.1, "the span that was observed in, not the root");
    version.set(None);
    assert!(both(&[origin])[0].value("model_deployed_timestamp_seconds", &[]).is_none());

    assert_eq!(Format::of_accept("application/openmetrics-text; version=1.0.0,text/plain"), Format::OpenMetrics);
    assert_eq!(Format::of_accept("text/plain, */*"), Format::Text);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An exemplar that leads nowhere is worse than none.
#[test]
fn only_kept_traces_become_exemplars() {
    let (edge, _guard) = telemetry("edge", 0.0);
    let red = EdgeRed::new(&edge, "sfo");
    for (n, fails) in [false, true, false].into_iter().enumerate() {
        let root = edge.root("edge.personalize", Kind::Server, None, edge.new_id());
        if fails {
            root.fail("500");
        }
        red.record(None, if fails { 500 } else { 200 }, std::time::Duration::from_millis(n as u64), &root);
        root.end();
    }
    let open = &both(&[edge])[1];
    assert_eq!(open.exemplars.len(), 1);
    assert_eq!(open.exemplars[0].value, 0.001, "of the one that failed");
    assert_eq!(open.value("edge_errors_total", &[("pop", "sfo")]), Some(1.0));
}

#[test]
fn what_does_not_apply_is_absent_and_says_so() {
    let (embedder, _guard) = telemetry("embedder", 0.0);
    let metrics = embedder.metrics();
    let read = |name: &str| both(std::slice::from_ref(&embedder))[0].value(name, &[]);
    for name in
        ["kafka_consumer_lag", "personalization_clicks_total", "model_confidence_score", "bandit_cumulative_regret"]
    {
        assert_eq!(read(name), None);
        assert_eq!(read(&format!("{name}_samples")), Some(0.0), "{name}");
    }
    // Once there is something to count it is there, and counts.
    metrics.counter(&names::PERSONALIZATION_CLICKS, &["personalized"]).inc();
    assert_eq!(read("personalization_clicks_total_samples"), None);
    assert_eq!(
        both(std::slice::from_ref(&embedder))[0].value("personalization_clicks_total", &[("source", "personalized")]),
        Some(1.0)
    );

    // Also where its samples have labels, which what stood for them had not.
    assert_eq!(read("model_ndcg_score_samples"), Some(0.0));
    metrics.estimate(&names::MODEL_NDCG, &["m1"]).set(0.7, 20_000);
    let labelled = [("model_version", "m1")];
    let now = &both(std::slice::from_ref(&embedder))[0];
    assert_eq!(now.value("model_ndcg_score_samples", &labelled), Some(20_000.0));
    assert_eq!(now.value("model_ndcg_score", &labelled), Some(0.7));
    assert_eq!(now.samples.keys().filter(|(name, _)| name == "model_ndcg_score_samples").count(), 1);

    let regret = metrics.estimate(&names::BANDIT_REGRET, &[]);
    regret.set_within(0.08, [0.05, 0.11], 1_499);
    assert_eq!(read("bandit_cumulative_regret_samples"), Some(1_499.0));
    assert_eq!([read("bandit_cumulative_regret"), read("bandit_cumulative_regret_ci_low")], [None, None]);
    regret.set_within(0.08, [0.05, 0.11], 1_500);
    assert_eq!(
        [
            read("bandit_cumulative_regret"),
            read("bandit_cumulative_regret_ci_low"),
            read("bandit_cumulative_regret_ci_high")
        ],
        [Some(0.08), Some(0.05), Some(0.11)]
    );
}

#[test]
fn request_metrics_start_at_zero() {
    let (bandit, _guard) = telemetry("bandit", 0.0);
    let _layer = attune_telemetry::grpc::GrpcServerLayer::new(&bandit);
    let read = &both(&[bandit])[0];
    for status in ["200", "422", "500", "503", "504"] {
        let labels = [("endpoint", "sample"), ("status_code", status)];
        assert_eq!(read.value("bandit_requests_total", &labels), Some(0.0), "{status}");
    }
    for code in ["INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"] {
        assert_eq!(read.value("bandit_errors_total", &[("endpoint", "sample"), ("code", code)]), Some(0.0), "{code}");
    }
}

#[test]
fn bounded_labels_overflow_and_what_is_not_listed_shows() {
    let (origin, _guard) = telemetry("origin", 0.0);
    let metrics = origin.metrics();
    for n in 0..1000 {
        metrics.counter(&names::MODEL_FEATURES_READ, &[&format!("feature{n}"), "present"]).inc();
    }
    // Another service's metric, a value that is not in the list, and a label too few.
    metrics.gauge(&names::EDGE_USERS, &[]).set(3.0);
    metrics.counter(&names::MODEL_FEATURES_READ, &["feature1", "u42"]).inc();
    metrics.counter(&names::MODEL_FEATURES_READ, &["feature1"]).inc();
    let read = &both(&[origin])[0];
    let name = "model_features_read_total";
    let features = |feature| read.value(name, &[("feature_name", feature), ("presence", "present")]);
    assert_eq!([features("feature63"), features("feature64"), features("_other")], [Some(1.0), None, Some(936.0)]);
    let overflow = [("metric", name), ("label", "feature_name")];
    assert_eq!(read.value("telemetry_label_overflow_total", &overflow), Some(936.0));
    assert_eq!(read.value("telemetry_metric_conflicts_total", &[("metric", name)]), Some(2.0));
    assert_eq!(read.value("telemetry_metric_conflicts_total", &[("metric", "edge_users")]), Some(1.0));
    assert_eq!(read.value("edge_users", &[]), None);
}

/// Many threads, one sum: shards lose nothing.
#[test]
fn shards_add_up() {
    let (edge, _guard) = telemetry("edge", 0.0);
    let histogram = edge.metrics().histogram(&names::EDGE_LATENCY, &["sfo"]);
    std::thread::scope(|scope| {
        for thread in 0..40 {
            scope.spawn(move || (0..1000).for_each(|n| histogram.observe(f64::from((thread * n) % 7))));
        }
    });
    let sum: i32 = (0..40).flat_map(|thread| (0..1000).map(move |n| (thread * n) % 7)).sum();
    assert_eq!((histogram.count(), histogram.sum()), (40_000, f64::from(sum)));
}
