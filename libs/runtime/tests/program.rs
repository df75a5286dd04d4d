//! A whole process: this test starts itself as a child that runs a real service, and talks to it from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_config::HumanDuration;
use attune_proto::bandit::v1::bandit_service_client::BanditServiceClient;
use attune_proto::bandit::v1::bandit_service_server::{BanditService, BanditServiceServer};
use attune_proto::bandit::v1::{SampleRequest, SampleResponse};
use attune_runtime::{Exit, OrExit as _, ProcessConfig, Program, Service, run_with};
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChildConfig {
    /// What building ends with: `fine`, `bad_data` or `later`.
    build: String,
    /// How long a call takes.
    work: HumanDuration,
    process: ProcessConfig,
}

const DEFAULTS: &str = "build = \"fine\"\nwork = \"0s\"\n[process.telemetry]\nlog_level = \"info\"\n";

#[derive(Clone)]
struct Slow(Duration);

#[tonic::async_trait]
impl BanditService for Slow {
    async fn sample(&self, _: Request<SampleRequest>) -> Result<Response<SampleResponse>, Status> {
        tokio::time::sleep(self.0).await;
        Ok(Response::new(SampleResponse { picks: vec![7], ..Default::default() }))
    }
}

const MARK: &str = "PROGRAM_TEST_ARGUMENTS";

/// Not a test of its own: the child's entrance, which does nothing when nobody asks for it.
#[test]
fn child() {
    let Some((_, arguments)) = std::env::vars_os().find(|(key, _)| key == MARK) else { return };
    let arguments = arguments.into_string().unwrap();
    let program = Program {
        name: "bandit",
        version: "9.9.9",
        default_config: DEFAULTS,
        process: |config: &ChildConfig| &config.process,
        check: |config, problems| {
            let known = ["fine", "bad_data", "later"].contains(&config.build.as_str());
            problems.check(known, "build", "must be fine, bad_data or later");
        },
        descriptors: attune_proto::DESCRIPTORS,
    };
    let code = run_with(arguments.split('\u{1f}').map(Into::into), program, |config: ChildConfig, host| async move {
        match config.build.as_str() {
            "bad_data" => Err(anyhow::anyhow!("the data is bad")).or_exit(Exit::Data)?,
            "later" => Err(anyhow::anyhow!("in use")).or_exit(Exit::TryLater)?,
            _ => {}
        }
        let mut service = Service::grpc(Routes::new(BanditServiceServer::new(Slow(config.work.get()))));
        service.background.push(Box::pin(async move {
            host.shutdown.wait().await;
            Ok(())
        }));
        service.close = Some(Box::pin(async { Ok(()) }));
        Ok(service)
    });
    // The harness would turn the code into its own.
    std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { code_number(code) });
}

fn code_number(code: std::process::ExitCode) -> i32 {
    [64u8, 65, 70, 75].into_iter().find(|number| std::process::ExitCode::from(*number) == code).map_or(1, i32::from)
}

fn start(arguments: &[&str]) -> Child {
    let all: Vec<&str> = std::iter::once("bandit").chain(arguments.iter().copied()).collect();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(MARK, all.join("\u{1f}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Exit code, stdout, stderr.
fn finish(child: Child) -> (i32, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn wrong_arguments_and_config_exit_64_with_one_clear_line() {
    let (code, _, error) = finish(start(&["--no-such-flag"]));
    assert_eq!(code, 64, "{error}");
    let (code, _, error) = finish(start(&["--set", "work=soon", "--set", "wrk=1s"]));
    assert_eq!(code, 64);
    assert!(error.contains("work") && error.contains("wrk") && error.lines().count() == 1, "{error}");
    let (code, _, error) = finish(start(&["--check-config", "--set", "build=odd"]));
    assert_eq!(code, 64);
    assert!(error.contains("build: must be fine"), "{error}");
    let (code, ..) = finish(start(&["--check-config"]));
    assert_eq!(code, 0);
}

#[test]
fn config_prints_as_it_loads_and_without_secrets() {
    let arguments = ["--print-config", "--set", "process.telemetry.log_key=hushhush"];
    let (code, printed, _) = finish(start(&arguments));
    assert_eq!(code, 0);
    assert!(printed.contains("max_connections = 1024") && !printed.contains("hushhush"), "{printed}");
}

#[test]
fn failures_to_build_carry_their_code() {
    assert_eq!(finish(start(&["--set", "build=bad_data"])).0, 65);
    assert_eq!(finish(start(&["--set", "build=later"])).0, 75);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("process.grpc.listen={}", taken.local_addr().unwrap());
    let (code, _, error) = finish(start(&["--set", &listen]));
    assert_eq!(code, 75);
    assert_eq!(error.matches("cannot listen on").count(), 1, "{error}");
}

/// One answer over plain HTTP/1.1: status line and body.
fn get(admin: SocketAddr, path: &str, accept: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(admin).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\naccept: {accept}\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} never happened");
}

fn terminate(child: &Child) {
    let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_service_lives_serves_drains_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bandit.sock");
    let admin = free_port();
    let log = dir.path().join("log.jsonl");
    let child = start(&[
        "--set",
        &format!("process.grpc.listen=unix:{}", socket.display()),
        "--set",
        &format!("process.admin={admin}"),
        "--set",
        &format!("process.telemetry.logs={{file=\"{}\"}}", log.display()),
        "--set",
        "work=300ms",
        "--set",
        "process.drain_notice=200ms",
    ]);
    wait_for("readiness", || get(admin, "/readyz", "*/*").is_some_and(|(status, _)| status == 200));
    assert_eq!(get(admin, "/livez", "*/*").unwrap().0, 200);
    assert_eq!(get(admin, "/nothing", "*/*").unwrap().0, 404);
    let (_, text) = get(admin, "/metrics", "text/plain").unwrap();
    assert!(text.contains("\nprocess_resident_memory_bytes ") && text.contains("\nbandit_requests_total{"), "{text}");
    let resident = text.split("\nprocess_resident_memory_bytes ").nth(1).unwrap().lines().next().unwrap();
    assert!(resident.parse::<f64>().unwrap() > 1e6);
    assert!(get(admin, "/metrics", "application/openmetrics-text").unwrap().1.ends_with("# EOF\n"));

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut client = runtime.block_on(async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
        assert_eq!(answer.into_inner().status, 1, "serving");
        BanditServiceClient::new(channel)
    });
    let call = runtime.spawn(async move { client.sample(SampleRequest::default()).await });
    wait_for("the call", || {
        get(admin, "/metrics", "text/plain").unwrap().1.contains("bandit_concurrent_requests{endpoint=\"sample\"} 1\n")
    });
    terminate(&child);
    wait_for("draining", || {
        get(admin, "/readyz", "*/*").is_some_and(|(status, body)| status == 503 && body.contains("draining"))
    });
    let answer = runtime.block_on(call).unwrap().unwrap().into_inner();
    assert_eq!(answer.picks, [7], "the call in flight was finished");
    let (code, _, error) = finish(child);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(!socket.exists(), "the socket file is gone");
    assert_eq!(events(&log), ["service_ready", "service_draining", "service_stopped"]);
}

fn events(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().into();
    text.lines().map(event).collect()
}
