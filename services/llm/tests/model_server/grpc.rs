//! The whole way over TCP: gRPC in, HTTP out; and what telemetry keeps of it.

use crate::server::{Act, Server, good, text};
use crate::{GOOD, Rig, config, rig, rig_with};
use attune_llm::LlmGrpc;
use attune_proto::llm::v1 as wire;
use attune_proto::llm::v1::llm_service_client::LlmServiceClient;
use attune_proto::llm::v1::llm_service_server::LlmServiceServer;
use attune_telemetry::grpc::GrpcServerLayer;
use attune_telemetry::{LogLevel, LogTarget, RequestLogs, TelemetryConfig};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tonic::transport::{Channel, server::TcpIncoming};

async fn serve(rig: &Rig) -> LlmServiceClient<Channel> {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .layer(GrpcServerLayer::new(&rig.telemetry))
        .add_service(LlmServiceServer::new(LlmGrpc::new(rig.reasoner.clone())));
    tokio::spawn(server.serve_with_incoming(incoming));
    LlmServiceClient::connect(format!("http://{address}")).await.unwrap()
}

fn request(title: &str, code: &str) -> wire::ReasonRequest {
    let factor = wire::Factor { code: code.into(), weight: 0.5, evidence: vec!["Heat".into()] };
    wire::ReasonRequest {
        item_title: title.into(),
        item_categories: vec!["Crime".into()],
        factors: vec![factor],
        page: "home".into(),
    }
}

async fn read(client: &mut LlmServiceClient<Channel>, request: wire::ReasonRequest) -> Vec<wire::ReasonResponse> {
    let mut stream = client.reason(request).await.unwrap().into_inner();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.message().await.unwrap() {
        pieces.push(piece);
    }
    pieces
}

#[tokio::test]
async fn an_explanation_crosses_two_networks_and_leaves_no_word_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (traces, logs) = (dir.path().join("traces"), dir.path().join("logs"));
    let everything = TelemetryConfig {
        traces: Some(traces.clone()),
        logs: LogTarget::File(logs.clone()),
        log_level: LogLevel::Debug,
        request_logs: RequestLogs::All,
        ..Default::default()
    };
    let server = Server::start(|n| match n {
        0 => good(&["You liked Heat. It is similar to it."]),
        _ => vec![Act::Status(500), text("canary from the server")],
    })
    .await;
    let config = config(&server.base_url(), &[("openai.api_key", "sk-canary")]);
    let rig = rig_with(&config, everything);
    let mut client = serve(&rig).await;

    let pieces = read(&mut client, request("Ronin", "similar_to_recent")).await;
    let (last, texts) = pieces.split_last().unwrap();
    let whole: String = texts.iter().map(|p| p.text.as_str()).collect();
    assert_eq!(whole, "You liked Heat. It is similar to it.");
    assert!(texts.iter().all(|p| !p.last) && last.last && last.text.is_empty());
    assert_eq!((last.model.as_str(), last.cached, last.fallback.as_str()), ("default", false, ""));
    assert_eq!((last.input_tokens, last.output_tokens), (100, 20));

    let pieces = read(&mut client, request("Casino", "similar_to_recent")).await;
    let last = pieces.last().unwrap();
    assert_eq!((last.model.as_str(), last.fallback.as_str()), ("template", "backend_error"));

    drop(client);
    assert!(rig.guard.flush(Duration::from_secs(10)));
    let kept = std::fs::read_to_string(traces).unwrap();
    for present in
        ["\"llm.reason\"", "\"chat\"", "gen_ai.usage.output_tokens", "gen_ai.response.finish_reasons", "\"degraded\""]
    {
        assert!(kept.contains(present), "{present} in {kept}");
    }
    let logged = std::fs::read_to_string(logs).unwrap_or_default();
    for absent in ["Ronin", "Casino", "Heat", "Crime", "You liked", "canary"] {
        assert!(!kept.contains(absent) && !logged.contains(absent), "{absent}");
    }
    assert_eq!(rig.metric("llm_requests_total{endpoint=\"reason\",status_code=\"200\"}"), 2.0);
    assert_eq!(rig.metric("llm_fallbacks_total{reason=\"backend_error\"}"), 1.0);
    assert_eq!(rig.metric("llm_errors_total{code=\"UNAVAILABLE\",endpoint=\"reason\"}"), 1.0, "the model did fail");
}

#[tokio::test]
async fn a_bad_request_is_refused_by_field_and_asks_nobody() {
    let server = Server::always(good(&[GOOD])).await;
    let rig = rig(&config(&server.base_url(), &[]));
    let mut client = serve(&rig).await;
    for (title, code, want) in [
        ("Ronin", "magic", "factors[0].code: is not a known factor"),
        (" ", "popular", "item_title: must not be empty"),
    ] {
        let status = client.reason(request(title, code)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (tonic::Code::InvalidArgument, want));
    }
    assert_eq!(server.seen.requests(), 0);
}

#[tokio::test]
async fn a_grpc_caller_that_leaves_stops_the_model() {
    let server = Server::always(vec![text("You liked Heat. It is"), Act::Hang]).await;
    let rig = rig(&config(&server.base_url(), &[]));
    let mut client = serve(&rig).await;
    let mut stream = client.reason(request("Ronin", "similar_to_recent")).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().text, "You liked Heat.");
    drop(stream);
    server.seen.until(|s| s.left.load(SeqCst) == 1).await;
}
