//! Traces to an OTLP/gRPC receiver on the official protocol crate: one that is well, one that is dead, ones that refuse.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_config::{ByteSize, HumanDuration};
use attune_domain::RequestId;
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::*;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span as OtlpSpan;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Takes everything, after answering as it was told to.
#[derive(Clone, Default)]
struct Receiver {
    answers: Arc<Mutex<VecDeque<Result<i64, Status>>>>,
    spans: Arc<Mutex<Vec<(String, OtlpSpan)>>>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let rejected = self.answers.lock().unwrap().pop_front().unwrap_or(Ok(0))?;
        for resource in request.into_inner().resource_spans {
            let name = resource.resource.unwrap().attributes.into_iter().find(|one| one.key == "service.name").unwrap();
            let name = format!("{:?}", name.value);
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans.map(|span| (name.clone(), span)));
        }
        let partial_success =
            (rejected > 0).then(|| ExportTracePartialSuccess { rejected_spans: rejected, ..Default::default() });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

async fn serve(receiver: &Receiver, listener: TcpListener) {
    let service = TraceServiceServer::new(receiver.clone());
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn telemetry(address: SocketAddr, change: impl FnOnce(&mut TelemetryConfig)) -> (Telemetry, Guard) {
    let mut config = TelemetryConfig {
        otlp: Some(format!("http://{address}")),
        logs: LogTarget::Off,
        slow_after: HumanDuration::secs(3600),
        queue_limit: ByteSize(64 << 20),
        promoted_per_second: u32::MAX,
        ..TelemetryConfig::default()
    };
    change(&mut config);
    let info = ServiceInfo { service: "origin", version: "1", instance: "i".into() };
    Telemetry::start(&config, info, Arc::new(|| 1_769_682_600_123)).unwrap()
}

async fn flush(guard: Guard) -> (bool, Guard) {
    tokio::task::spawn_blocking(move || (guard.flush(Duration::from_secs(60)), guard)).await.unwrap()
}

/// Value of a series; with the labels as they are written.
fn metric(telemetry: &Telemetry, series: &str) -> f64 {
    let text = encode(std::slice::from_ref(telemetry), Format::Text);
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{series} in\n{text}")).parse().unwrap()
}

fn dropped(telemetry: &Telemetry, lane: &str, reason: &str) -> f64 {
    metric(telemetry, &format!("trace_export_dropped_total{{lane=\"{lane}\",reason=\"{reason}\"}}"))
}

fn waiting(telemetry: &Telemetry, lane: &str) -> f64 {
    metric(telemetry, &format!("trace_export_queue_length{{lane=\"{lane}\"}}"))
}

fn failing(telemetry: &Telemetry) {
    let root = telemetry.root("api.personalize", Kind::Server, None, telemetry.new_id());
    root.child("context.build").fail("broken");
    root.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_kept_spans_arrive() {
    let (listener, address) = listen().await;
    let receiver = Receiver::default();
    serve(&receiver, listener).await;
    let (telemetry, guard) = telemetry(address, |config| config.sample_normal = 0.01);
    let ranking = telemetry.service(ServiceInfo { service: "ranking", version: "1", instance: "i".into() });
    let mut expected = BTreeMap::new();
    for n in 0..5000u64 {
        let mut id = [0xab; 16];
        // The top 56 random bits, spread evenly: the last one in a hundred is above the threshold of 1 %.
        id[9..].copy_from_slice(&((u128::from(n) << 56) / 5000).to_be_bytes()[9..]);
        id[0] = (n % 251) as u8;
        id[1] = (n / 251) as u8;
        let id = RequestId(id);
        let of = if n % 2 == 0 { &telemetry } else { &ranking };
        let root = of.root("root", Kind::Server, None, id);
        (0..n % 4).for_each(|_| root.child("child").end());
        if n % 100 == 7 {
            root.fail("broken");
        }
        root.end();
        if n % 100 == 7 || n > 4950 {
            expected.insert(id.0.to_vec(), 1 + (n % 4) as usize);
        }
    }
    assert_eq!(expected.len(), 50 + 49);
    let (flushed, _guard) = flush(guard).await;
    assert!(flushed);
    let mut got = BTreeMap::<_, usize>::new();
    let spans = receiver.spans.lock().unwrap();
    spans.iter().for_each(|(_, span)| *got.entry(span.trace_id.clone()).or_default() += 1);
    assert_eq!(got, expected);
    let services: std::collections::BTreeSet<_> = spans.iter().map(|(service, _)| service).collect();
    assert_eq!(services.len(), 2, "each under its own resource");
    assert!(spans.iter().all(|(_, span)| span.trace_state == "ot=th:0" || span.trace_state == "ot=th:fd70a4"));
    assert_eq!(waiting(&telemetry, "promoted") + waiting(&telemetry, "sampled"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_costs_bounded_memory_and_is_tried_again() {
    let (listener, address) = listen().await;
    drop(listener);
    let (telemetry, guard) = telemetry(address, |config| {
        config.queue_limit = ByteSize(512 << 10);
        config.sample_normal = 1.0;
    });
    const EACH: usize = 20_000;
    for _ in 0..EACH {
        failing(&telemetry);
        telemetry.root("api.personalize", Kind::Server, None, telemetry.new_id()).end();
    }
    for lane in ["promoted", "sampled"] {
        let (lost, left) = (dropped(&telemetry, lane, "queue_full"), waiting(&telemetry, lane));
        // A trace costs more than 256 bytes, a lane holds 256 KiB, and one batch is on its way.
        assert!(left <= 1024.0, "{left} {lane} traces wait");
        let sent = EACH as f64 - lost - left;
        assert!((0.0..=512.0).contains(&sent), "{lane}: {lost} lost, {left} wait, {sent} on their way");
    }
    let receiver = Receiver::default();
    serve(&receiver, TcpListener::bind(address).await.unwrap()).await;
    let (flushed, _guard) = flush(guard).await;
    assert!(flushed, "what waited is delivered when the receiver is back");
    let arrived = receiver.spans.lock().unwrap().iter().filter(|(_, span)| span.parent_span_id.is_empty()).count();
    let lost = dropped(&telemetry, "promoted", "queue_full") + dropped(&telemetry, "sampled", "queue_full");
    assert_eq!(arrived as f64 + lost, 2.0 * EACH as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_decide_what_is_sent_again() {
    let (listener, address) = listen().await;
    let receiver = Receiver::default();
    serve(&receiver, listener).await;
    let (telemetry, guard) = telemetry(address, |config| config.sample_normal = 1.0);
    let answer = |answers: &[Result<i64, Status>]| receiver.answers.lock().unwrap().extend(answers.iter().cloned());
    let arrived = || receiver.spans.lock().unwrap().len();

    answer(&[Err(Status::unavailable("busy")), Err(Status::resource_exhausted("busy"))]);
    failing(&telemetry);
    let (_, guard) = flush(guard).await;
    assert_eq!(arrived(), 2, "tried until it was taken");

    answer(&[Err(Status::invalid_argument("no"))]);
    failing(&telemetry);
    let (_, guard) = flush(guard).await;
    assert_eq!((arrived(), dropped(&telemetry, "promoted", "refused")), (2, 1.0));

    answer(&[Ok(1)]);
    failing(&telemetry);
    let (_, _guard) = flush(guard).await;
    assert_eq!((arrived(), dropped(&telemetry, "promoted", "refused")), (4, 2.0), "partly taken");
    assert_eq!(dropped(&telemetry, "promoted", "send_failed"), 0.0);
}

#[test]
fn a_wrong_address_is_refused() {
    for address in ["", "nonsense", "https://a.test:4317", "ftp://a.test", "http://"] {
        let config = TelemetryConfig { otlp: Some(address.into()), logs: LogTarget::Off, ..TelemetryConfig::default() };
        let info = ServiceInfo { service: "llm", version: "1", instance: "i".into() };
        let Err(error) = Telemetry::start(&config, info, Arc::new(|| 1)) else { panic!("{address} is taken") };
        let error = error.to_string();
        assert!(error.starts_with("telemetry.otlp"), "{address}: {error}");
    }
}
