//! The HTTP contract, held against the built program: every status of the table, and what feedback, explanations and
//! the operators' doors promise.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;

use http::Method;
use platform::*;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Nobody in the holdout, every trace and every line written, and pages that a busy machine does not degrade.
const OPEN: &str = r#"
[edge]
origin_deadline = "20s"
[origin.deadlines]
context = "5s"
retrieval = "5s"
ranking = "5s"
bandit = "5s"
[retrieval.deadlines]
neighbours = "4s"
similar_to_recent = "4s"
trending = "4s"
fresh = "4s"
cohort_favourites = "4s"
related = "4s"
search = "4s"
[edge.experiment]
holdout = 0.0
[edge.process.telemetry]
sample_normal = 1.0
sample_edge_only = 1.0
request_logs = "all"
"#;

fn start_with(dir: &TempDir, settings: &str) -> Platform {
    let file = dir.path().join("settings.toml");
    fs::write(&file, settings).unwrap();
    Platform::start(dir, &["--config", file.to_str().unwrap()])
}

fn feedback(events: &[Value]) -> Value {
    json!({ "events": events })
}

async fn give(platform: &Platform, events: &[Value]) -> Value {
    let answer = platform.edge.post("/v1/feedback", &feedback(events)).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()
}

/// Holds a refusal against what the contract says of all refusals.
fn assert_problem(case: &str, answer: &Answer, status: u16, slug: &str) {
    assert_eq!(answer.status, status, "{case}: {}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json", "{case}");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("urn:attune:problem:{slug}"), "{case}");
    assert_eq!(problem["status"], status, "{case}");
    assert!(problem["title"].as_str().is_some_and(|t| !t.is_empty()), "{case}");
    let trace = problem["trace_id"].as_str().unwrap();
    assert!(trace.len() == 32 && answer.header("traceresponse").contains(trace), "{case}: {trace}");
}

#[tokio::test]
async fn every_refusal_names_its_reason_and_changes_nothing() {
    let dir = state();
    let mut platform = start_with(&dir, OPEN);
    let edge = platform.edge.clone();
    let version = async |id: &str| -> u64 {
        let answer = edge.post("/v1/feedback", &feedback(&[event(id, "click", "counter", "i1")])).await;
        answer.header("x-attune-version").parse().unwrap()
    };
    let before = version("e-before").await;

    let event_with = |change: &dyn Fn(&mut Value)| {
        let mut bad = event("e-canary", "click", "canary-user", "canary-item");
        change(&mut bad);
        feedback(&[bad]).to_string()
    };
    let many = feedback(&vec![event("e", "click", "u", "i1"); 501]).to_string();
    let deep = format!("{{\"user_id\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let post = |path: &'static str, body: &str| (Method::POST, path.to_owned(), body.as_bytes().to_vec());
    let get = |path: &str| (Method::GET, path.to_owned(), Vec::new());
    let (personalize, events) = ("/v1/personalize", "/v1/feedback");
    // What is sent; status and kind; the field named.
    let cases = [
        (post(personalize, "{\"user_id\":\"canary-user\","), 400, "malformed-request", ""),
        (post(personalize, ""), 400, "malformed-request", ""),
        (post(personalize, &deep), 400, "malformed-request", ""),
        (post(events, "{"), 400, "malformed-request", ""),
        (
            (Method::POST, personalize.into(), b"{\"user_id\":\"canary-user\xff\"}".to_vec()),
            400,
            "malformed-request",
            "",
        ),
        ((Method::POST, events.into(), b"\xff\xfe".to_vec()), 400, "malformed-request", ""),
        (get("/v1/personalize?user_id=%ff"), 400, "malformed-request", ""),
        (post(personalize, "[]"), 422, "invalid-field", ""),
        (post(personalize, r#"{"context":["canary-device"]}"#), 422, "invalid-field", "/context"),
        (post(personalize, r#"{"page_type":"canary-page"}"#), 422, "invalid-field", "/page_type"),
        (post(personalize, r#"{"limit":0}"#), 422, "invalid-field", "/limit"),
        (post(personalize, r#"{"limit":101}"#), 422, "invalid-field", "/limit"),
        (post(personalize, r#"{"limit":10000}"#), 422, "invalid-field", "/limit"),
        (post(personalize, r#"{"limit":-1}"#), 422, "invalid-field", "/limit"),
        (post(personalize, r#"{"limit":99999999999999999999999}"#), 422, "invalid-field", "/limit"),
        (post(personalize, r#"{"user_id":7}"#), 422, "invalid-field", "/user_id"),
        (post(personalize, r#"{"user_id":""}"#), 422, "invalid-field", "/user_id"),
        (post(personalize, "{\"user_id\":\"canary-user\\u0000\"}"), 422, "invalid-field", "/user_id"),
        (post(personalize, &json!({"user_id": "x".repeat(129)}).to_string()), 422, "invalid-field", "/user_id"),
        (post(personalize, r#"{"page_type":"product"}"#), 422, "invalid-field", "/item_id"),
        (post(personalize, r#"{"userid":"canary-user"}"#), 422, "invalid-field", "/userid"),
        (post(personalize, r#"{"context":{"planet":"canary-planet"}}"#), 422, "invalid-field", "/context/planet"),
        (get("/v1/personalize?limit=0"), 422, "invalid-field", "limit"),
        (get("/v1/personalize?limit=canary-limit"), 422, "invalid-field", "limit"),
        (get("/v1/personalize?page_type=canary-page"), 422, "invalid-field", "page_type"),
        (get("/v1/personalize?color=canary-color"), 422, "invalid-field", "color"),
        (post(events, "{}"), 422, "invalid-field", "/events"),
        (post(events, r#"{"events":[]}"#), 422, "invalid-field", "/events"),
        (post(events, &many), 422, "invalid-field", "/events"),
        (
            post(events, &event_with(&|e| e["occurred_at"] = "3000-01-01T00:00:00Z".into())),
            422,
            "invalid-field",
            "/events/0/occurred_at",
        ),
        (
            post(events, &event_with(&|e| e["occurred_at"] = "2020-01-01T00:00:00Z".into())),
            422,
            "invalid-field",
            "/events/0/occurred_at",
        ),
        (
            post(events, &event_with(&|e| e["occurred_at"] = "yesterday".into())),
            422,
            "invalid-field",
            "/events/0/occurred_at",
        ),
        (post(events, &event_with(&|e| e["type"] = "canary-type".into())), 422, "invalid-field", "/events/0/type"),
        (post(events, &event_with(&|e| e["value"] = "much".into())), 422, "invalid-field", "/events/0/value"),
        (post(events, &event_with(&|e| e["user_id"] = Value::Null)), 422, "invalid-field", "/events/0/user_id"),
        (get("/v1/explain"), 422, "invalid-field", "request_id"),
        (get("/v1/explain?request_id=canary-request&item_id=i1"), 422, "invalid-field", "request_id"),
        (
            get("/v1/explain?request_id=0123456789abcdef0123456789abcdef&item_id=canary-item"),
            404,
            "unknown-decision",
            "",
        ),
        (get("/canary-route"), 404, "unknown-route", ""),
        (get("/"), 404, "unknown-route", ""),
        (post("/v1/items/i1", "{}"), 404, "unknown-route", ""),
        (get("/metrics"), 404, "unknown-route", ""),
    ];
    for ((method, path, body), status, slug, field) in cases {
        let case = format!("{method} {path} {}", String::from_utf8_lossy(&body[..body.len().min(120)]));
        let headers = if method == Method::POST { &[JSON][..] } else { &[] };
        let answer = edge.send(method.clone(), &path, headers, body).await;
        assert_problem(&case, &answer, status, slug);
        let problem = answer.json();
        if !field.is_empty() {
            let name = if method == Method::GET { "parameter" } else { "pointer" };
            let errors = problem["errors"].as_array().unwrap();
            assert!(errors.iter().any(|e| e[name] == field), "{case}: {problem}");
            assert!(errors.iter().all(|e| e["detail"].as_str().is_some_and(|d| !d.is_empty())), "{case}");
        }
        assert!(!problem.to_string().contains("canary"), "{case}: a value comes back: {problem}");
    }
    for (method, path, allow) in [
        (Method::DELETE, "/v1/personalize", "GET, POST"),
        (Method::HEAD, "/v1/personalize", "GET, POST"),
        (Method::OPTIONS, "/v1/personalize", "GET, POST"),
        (Method::GET, "/v1/feedback", "POST"),
        (Method::POST, "/v1/explain", "GET"),
    ] {
        let answer = edge.send(method.clone(), path, &[], "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{method} {path}");
    }
    for path in [personalize, events] {
        let answer = edge.send(Method::POST, path, &[("content-type", "text/plain")], "{}").await;
        assert_problem(path, &answer, 415, "unsupported-media-type");
    }
    let answer = edge.send(Method::POST, personalize, &[JSON, ("x-attune-version", "soon")], "{}").await;
    assert_problem("x-attune-version", &answer, 400, "malformed-request");

    assert_eq!(version("e-after").await, before + 1, "a refused request changed the event log");
    assert!(platform.is_alive());

    // What was taken must not stand in logs and traces either.
    let body = json!({"user_id": "canary-user", "page_type": "search", "query": "canary query",
        "context": {"session_id": "canary-session", "device": "canary-device", "geo": "canary-geo"}});
    let page = edge.post(personalize, &body).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let request = page.json()["request_id"].as_str().unwrap().to_owned();
    edge.page("canary-user").await;
    let query = "/v1/personalize?user_id=canary-user&page_type=product&item_id=canary-item&session_id=canary-session";
    assert_eq!(edge.get(query).await.status, 200);
    assert_eq!(edge.get(&format!("/v1/explain?request_id={request}&item_id={}", page.items()[0])).await.status, 200);
    give(&platform, &[event("canary-event", "click", "canary-user", "canary-item")]).await;
    let put = json!({"title": "canary title", "categories": ["canary-category"]});
    assert_eq!(platform.admin.put("/v1/items/canary-item", &put).await.status, 200);
    assert_eq!(
        platform.admin.put("/v1/users/canary-user", &json!({"attributes": {"age": "canary-age"}})).await.status,
        200
    );
    assert_eq!(platform.admin.delete("/v1/users/canary-user").await.status, 200);
    let state = platform.state.clone();
    assert!(platform.interrupt().success());
    let written = written(&state);
    assert!(written.contains(&request), "the traces are not complete, so their silence says nothing");
    assert!(written.contains("user_id_hash"));
    let leak = written.find("canary").map(|at| &written[at.saturating_sub(300)..(at + 100).min(written.len())]);
    assert_eq!(leak, None);
}

/// Sends bytes and reads what comes back until the server closes.
async fn raw(host: &str, pieces: &[&[u8]], patience: Duration) -> String {
    let (mut read, mut write) = TcpStream::connect(host).await.unwrap().into_split();
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|p| p.to_vec()).collect();
    let writing = tokio::spawn(async move {
        for piece in pieces {
            // The server may have had enough.
            if write.write_all(&piece).await.is_err() {
                break;
            }
        }
        write
    });
    let mut answer = Vec::new();
    let reading = async {
        let mut chunk = [0; 4096];
        while let Ok(n) = read.read(&mut chunk).await
            && n > 0
        {
            answer.extend_from_slice(&chunk[..n]);
        }
    };
    tokio::time::timeout(patience, reading).await.expect("the server does not close the connection");
    writing.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_too_large_or_too_slow_is_turned_away() {
    let dir = state();
    let mut platform = start_with(&dir, "[edge.limits]\nreceive = \"1s\"\n");
    let patience = Duration::from_secs(20);
    let host = platform.edge.host().to_owned();

    let ten_mb = vec![b' '; 10 << 20];
    let head =
        format!("POST /v1/personalize HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", ten_mb.len());
    let answer = raw(&host, &[head.as_bytes(), &ten_mb], patience).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body-too-large"), "{answer}");
    let head = b"POST /v1/feedback HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let mut pieces = vec![&head[..]];
    pieces.extend(vec![chunk.as_bytes(); 17]);
    let answer = raw(&host, &pieces, patience).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    // Whoever is still sending when the answer comes can read it.
    for _ in 0..20 {
        let json = [("content-type", "application/json")];
        let answer = platform.edge.send(Method::POST, "/v1/personalize", &json, vec![b' '; 2 << 20]).await;
        assert_eq!(answer.status, 413);
        let answer = platform
            .edge
            .send(Method::POST, "/v1/feedback", &[("content-type", "text/html")], vec![b' '; 2 << 20])
            .await;
        assert_eq!(answer.status, 415);
    }

    let headers: String = (0..1_000).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = raw(&host, &[format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()], patience).await;
    // The connection is closed with bytes unread, so the answer may not arrive.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = raw(&host, &[format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)).as_bytes()], patience).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let answer = raw(&host, &[b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http\r\n\r\n"], patience).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");

    // A half head is only closed; a half body is told why.
    let answer = raw(&host, &[b"POST /v1/personalize HTTP/1.1\r\nhost: x\r\n"], patience).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    let half = b"POST /v1/personalize HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"user_id\":";
    let answer = raw(&host, &[half], patience).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("in time"), "{answer}");

    // Between requests a connection may wait for longer than a request may take, and the next has the same time.
    let mut connection = TcpStream::connect(&host).await.unwrap();
    let request = b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(status(&mut connection, &[request]).await, 404);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // A refused body is read past.
    assert_eq!(status(&mut connection, &[LATE_BODY, b"late"]).await, 404);
    assert_eq!(status(&mut connection, &[LATE_BODY, b"late"]).await, 404);
    connection.write_all(b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    assert_closed(&mut connection).await;

    assert!(platform.is_alive());
    platform.edge.page("u1").await;
}

const LATE_BODY: &[u8] = b"POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n";

/// Sends the pieces of a request, a moment apart, and reads what it is answered.
async fn status(connection: &mut TcpStream, pieces: &[&[u8]]) -> u16 {
    for piece in pieces {
        connection.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut answer = [0; 4096];
    let length = connection.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {answer:?}"))
}

async fn assert_closed(connection: &mut TcpStream) {
    let closed = tokio::time::timeout(Duration::from_secs(20), connection.read_to_end(&mut Vec::new())).await;
    assert!(closed.expect("it stays open").is_ok_and(|length| length == 0));
}

#[tokio::test]
async fn what_waits_too_long_is_closed() {
    let dir = state();
    let platform = start_with(&dir, "[edge.limits]\nreceive = \"1s\"\nidle = \"4s\"\n");
    let connect = async || TcpStream::connect(platform.edge.host()).await.unwrap();
    let mut idle = connect().await;
    let request = b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(status(&mut idle, &[request]).await, 404);
    let mut silent = connect().await;
    // Who never asked has only the time of a request.
    assert_closed(&mut silent).await;
    assert_eq!(status(&mut idle, &[request]).await, 404);
    assert_closed(&mut idle).await;
}

#[tokio::test]
async fn a_client_above_its_rate_and_a_connection_above_the_cap_are_shed() {
    let dir = state();
    let platform = start_with(&dir, "[edge.limits]\nclient_rate = 1\nclient_burst = 5\nconnections = 3\n");
    let mut shed = 0;
    for _ in 0..20 {
        let answer = platform.edge.post("/v1/personalize", &json!({})).await;
        if answer.status != 200 {
            assert_problem("rate", &answer, 429, "too-many-requests");
            assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
            shed += 1;
        }
    }
    assert!((10..=15).contains(&shed), "{shed} of 20 shed at a burst of 5");
    // Whoever is still sending can read it, and ask again.
    let mut connection = TcpStream::connect(platform.edge.host()).await.unwrap();
    for _ in 0..4 {
        let status = status(&mut connection, &[LATE_BODY, b"late"]).await;
        assert!([404, 429].contains(&status), "{status}");
    }
    drop(connection);
    // With the connection above, four; the fourth is one too many.
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(platform.edge.host()).await.unwrap();
        stream.write_all(b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        open.push(stream);
    }
    let request: &[u8] = b"GET /v1/personalize HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = raw(platform.edge.host(), &[request], Duration::from_secs(20)).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
}

#[tokio::test]
async fn an_event_counts_once_and_shows_in_the_next_answer() {
    let dir = state();
    let platform = start_with(&dir, OPEN);
    let edge = &platform.edge;
    let receipt = give(
        &platform,
        &[
            event("e1", "click", "visitor", "i3"),
            event("e2", "stare", "visitor", "i3"),
            event("e1", "click", "visitor", "i3"),
            event("e1", "click", "somebody else", "i3"),
            json!("x"),
        ],
    )
    .await;
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(2), &json!(1)), "{receipt}");
    let rejected: Vec<_> =
        receipt["rejected"].as_array().unwrap().iter().map(|r| r["index"].as_u64().unwrap()).collect();
    assert_eq!(rejected, [1, 4]);
    assert!(receipt["rejected"][0]["reason"].as_str().unwrap().starts_with("type"), "{receipt}");
    let again = give(&platform, &[event("e1", "click", "visitor", "i3")]).await;
    assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(1)));

    // A visitor that no edge holds, then the same one held; a history of a hundred clicks, and none.
    for user in ["u7", "never seen before"] {
        let mut seen = Vec::new();
        for round in 0..12 {
            let clicked = match round {
                0 => "i299".to_owned(),
                _ => edge.page(user).await.items()[round % 3].clone(),
            };
            let id = format!("{user}-{round}");
            let sent = now();
            let answer = edge.post("/v1/feedback", &feedback(&[event(&id, "click", user, &clicked)])).await;
            assert_eq!(answer.status, 202);
            seen.push(clicked);
            let version: u64 = answer.header("x-attune-version").parse().unwrap();
            let page = edge.page(user).await;
            let document = page.json();
            let watermark = document["watermark"].as_str().unwrap().to_owned();
            // To the millisecond, the watermark's unit.
            assert!(watermark[..23] >= sent[..23], "{user} {round}: {watermark} before {sent}");
            assert!(page.header("x-attune-version").parse::<u64>().unwrap() >= version, "{user} {round}");
            let back: Vec<_> = page.items().into_iter().filter(|i| seen.contains(i)).collect();
            assert!(back.is_empty(), "{user} {round}: {back:?} came back");
            assert_eq!(document["level"], 0, "{user} {round}: {document}");
        }
    }
    // A session is a visitor; without one there is nobody to remember.
    let of_session = json!({"context": {"session_id": "s1"}, "limit": 10});
    let page = edge.post("/v1/personalize", &of_session).await;
    assert_eq!((page.status, &page.json()["watermark"]), (200, &Value::Null));
    let clicked = page.items()[0].clone();
    let mut by_session = event("e1", "click", "", &clicked);
    by_session.as_object_mut().unwrap().remove("user_id");
    by_session["session_id"] = "s1".into();
    assert_eq!(give(&platform, &[by_session]).await["accepted"], 1);
    let page = edge.post("/v1/personalize", &of_session).await;
    assert!(page.json()["watermark"].is_string() && !page.items().contains(&clicked), "{}", page.text());
    for _ in 0..3 {
        let page = edge.post("/v1/personalize", &json!({})).await;
        assert_eq!((page.status, &page.json()["watermark"], page.items().len()), (200, &Value::Null, 20));
    }
    // Another edge's version that this platform has not reached is not waited for, and the answer says so.
    let ahead = edge.send(Method::GET, "/v1/personalize?user_id=u9", &[("x-attune-version", "99999999")], "").await;
    assert_eq!(ahead.status, 200);
    assert_eq!(ahead.json()["level_reason"], "state_behind", "{}", ahead.text());
}

#[tokio::test]
async fn five_likes_of_a_kind_turn_the_next_pages_towards_it() {
    let dir = state();
    let platform = start_with(&dir, OPEN);
    // Over several visitors, since a page also explores.
    let (mut before, mut after) = (0, 0);
    for (n, kind) in CATEGORIES.into_iter().enumerate().take(8) {
        let user = format!("newcomer-{n}");
        let of_kind = |page: &Answer| page.items().iter().filter(|i| category_of(i) == kind).count();
        before += of_kind(&platform.edge.page(&user).await);
        let likes: Vec<_> =
            (0..5).map(|i| event(&format!("like-{i}"), "like", &user, &item(i * 50 + n as u32))).collect();
        give(&platform, &likes).await;
        after += of_kind(&platform.edge.page(&user).await);
    }
    println!("of 80 slots, {before} were of the liked category before five likes and {after} after");
    assert!(after >= 2 * before.max(8), "{before} then {after} of 80");
}

#[tokio::test]
async fn an_answer_can_be_explained_as_a_document_and_as_a_stream() {
    let dir = state();
    let platform = start_with(&dir, OPEN);
    for _ in 0..2 {
        let page = platform.edge.page("u5").await;
        let request = page.json()["request_id"].as_str().unwrap().to_owned();
        let path = format!("/v1/explain?request_id={request}&item_id={}", page.items()[0]);
        let whole = platform.edge.get(&path).await;
        assert_eq!((whole.status, whole.header("content-type")), (200, "application/json"), "{}", whole.text());
        let whole = whole.json();
        assert!(whole["text"].as_str().unwrap().len() > 10, "{whole}");
        assert!(!whole["reasons"].as_array().unwrap().is_empty(), "{whole}");
        assert!(whole["model"].is_string() && whole["cached"].is_boolean() && whole.get("faithfulness").is_some());
        let streamed = platform.edge.send(Method::GET, &path, &[("accept", "text/event-stream")], "").await;
        assert_eq!((streamed.status, streamed.header("content-type")), (200, "text/event-stream"));
        let (mut text, mut done) = (String::new(), Value::Null);
        for event in streamed.text().split("\n\n").filter(|e| !e.is_empty()) {
            let data: Value = serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap();
            match event.starts_with("event: done") {
                true => done = data,
                false => text.push_str(data["text"].as_str().unwrap()),
            }
        }
        assert_eq!((&json!(text), &done["reasons"]), (&whole["text"], &whole["reasons"]));
        // In the catalogue but not in the answer, and not in the catalogue.
        let shown = page.items();
        let absent = (0..ITEMS).map(item).find(|i| !shown.contains(i)).unwrap();
        for item in [absent.as_str(), "nothing"] {
            let answer = platform.edge.get(&format!("/v1/explain?request_id={request}&item_id={item}")).await;
            assert_eq!(answer.status, 404, "{}", answer.text());
        }
    }
    let page = platform.edge.post("/v1/personalize", &json!({"user_id": "u5", "limit": 3, "explain": true})).await;
    let page = page.json();
    assert_eq!(page["tier"], "llm", "{page}");
    assert!(page["items"].as_array().unwrap().iter().all(|i| i["explanation"].is_string()), "{page}");
}

#[tokio::test]
async fn operators_change_items_and_visitors_and_erase_them_in_one_process() {
    operate(&[]).await;
}

#[tokio::test]
async fn operators_change_items_and_visitors_and_erase_them_over_seven_processes() {
    operate(&["--separate"]).await;
}

async fn operate(args: &[&str]) {
    let dir = state();
    let file = dir.path().join("settings.toml");
    fs::write(&file, OPEN).unwrap();
    let args = [&["--config", file.to_str().unwrap()], args].concat();
    let platform = Platform::start(&dir, &args);
    let (edge, admin) = (&platform.edge, &platform.admin);

    // Withdrawn: gone from every answer a second later, for visitors that were held and for others.
    let users: Vec<String> = (0..8).map(|n| format!("u{n}")).collect();
    let mut shown = Vec::new();
    for user in &users {
        shown.extend(edge.page(user).await.items());
    }
    let withdrawn = shown[0].clone();
    let answer = admin.delete(&format!("/v1/items/{withdrawn}")).await;
    assert_eq!((answer.status, &answer.json()["available"]), (200, &json!(false)), "{}", answer.text());
    tokio::time::sleep(Duration::from_secs(1)).await;
    for user in users.iter().map(String::as_str).chain(["u20", "stranger"]) {
        for page in ["home", "cart", "product", "search"] {
            let body = json!({"user_id": user, "page_type": page, "limit": 100, "item_id": "i4", "query": "Record 12"});
            let answer = edge.post("/v1/personalize", &body).await;
            assert_eq!(answer.status, 200);
            assert!(!answer.items().contains(&withdrawn), "{withdrawn} still shown to {user} on {page}");
        }
    }
    assert_problem("unknown item", &admin.delete("/v1/items/nothing").await, 404, "unknown-item");
    assert_problem("item", &admin.put("/v1/items/i5", &json!({"price": -1})).await, 422, "invalid-field");
    assert_problem("item", &admin.put("/v1/items/i5", &json!({"colour": 1})).await, 422, "invalid-field");
    assert_problem("user", &admin.put("/v1/users/u5", &json!({"attributes": 1})).await, 422, "invalid-field");
    assert_eq!(admin.get("/v1/users/u5").await.header("allow"), "PUT, DELETE");

    // New: found by its words, and shown at home to somebody who likes its kind.
    let put = json!({"title": "Ziggurat nocturne", "categories": ["jazz"], "created_at": now(), "price": 1999});
    assert_eq!(admin.put("/v1/items/brand-new", &put).await.status, 200);
    let brand_new = "brand-new".to_owned();
    let limit = Instant::now() + Duration::from_secs(30);
    let search = json!({"user_id": "u1", "page_type": "search", "query": "ziggurat", "limit": 100});
    while !edge.post("/v1/personalize", &search).await.items().contains(&brand_new) {
        assert!(Instant::now() < limit, "a new item is not found");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut tries = 0;
    let found = loop {
        let user = format!("jazz lover {tries}");
        let likes: Vec<_> = (0..5).map(|i| event(&format!("l{i}"), "like", &user, &item(i * 50))).collect();
        give(&platform, &likes).await;
        let page = edge.post("/v1/personalize", &json!({"user_id": user, "limit": 100})).await;
        tries += 1;
        if page.items().contains(&brand_new) {
            break page;
        }
        assert!(tries < 200, "a new item is never shown");
    };
    println!("the new item was shown to jazz lover number {tries}");
    let request = found.json()["request_id"].as_str().unwrap().to_owned();
    let answer = edge.get(&format!("/v1/explain?request_id={request}&item_id=brand-new")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    // Erased: nothing is left that an answer could show, and decisions are gone.
    let attributes = json!({"attributes": {"age": "30s"}});
    assert_eq!(admin.put("/v1/users/u3", &attributes).await.status, 200);
    give(&platform, &[event("last", "like", "u3", "i33")]).await;
    let page = edge.page("u3").await.json();
    assert!(page["watermark"].is_string());
    let request = page["request_id"].as_str().unwrap();
    let explain = format!("/v1/explain?request_id={request}&item_id={}", page["items"][0]["item_id"].as_str().unwrap());
    assert_eq!(edge.get(&explain).await.status, 200);
    let receipt = admin.delete("/v1/users/u3").await;
    assert_eq!(receipt.status, 200);
    let receipt = receipt.json();
    let stores = receipt["stores"].as_array().unwrap();
    for name in ["decision_log", "edge_state", "feature_store"] {
        let store = stores.iter().find(|s| s["store"] == name).unwrap_or_else(|| panic!("{name}: {receipt}"));
        assert!(store["erased_at"].is_string() || store["expires_at"].is_string(), "{store}");
    }
    let checkpoints = stores.iter().find(|s| s["store"] == "checkpoints").unwrap_or_else(|| panic!("{receipt}"));
    assert!(checkpoints["erased_at"].is_null() && checkpoints["expires_at"].is_string(), "{checkpoints}");
    assert!(!receipt["kept_aggregate"].as_array().unwrap().is_empty());
    for _ in 0..5 {
        assert_eq!(edge.page("u3").await.json()["watermark"], Value::Null);
    }
    assert_problem("erased", &edge.get(&explain).await, 404, "unknown-decision");
    // The same person is somebody new.
    assert_eq!(give(&platform, &[event("first", "click", "u3", "i34")]).await["accepted"], 1);
    assert!(edge.page("u3").await.json()["watermark"].is_string());
    platform.kill();
    // Services that outlive their launcher for a moment are waited for.
    let platform = Platform::start(&dir, &args);
    assert!(!platform.edge.page("u3").await.items().contains(&"i34".to_owned()));
    assert_problem("erased", &platform.edge.get(&explain).await, 404, "unknown-decision");
}

#[tokio::test]
async fn metrics_carry_the_names_of_the_contract() {
    let dir = state();
    let platform = start_with(&dir, OPEN);
    for n in 0..5 {
        let page = platform.edge.page(&format!("u{n}")).await;
        let request = page.json()["request_id"].as_str().unwrap().to_owned();
        platform.edge.get(&format!("/v1/explain?request_id={request}&item_id={}", page.items()[0])).await;
    }
    let text = platform.admin.get("/metrics").await;
    assert!(text.header("content-type").starts_with("text/plain"));
    let open = [("accept", "application/openmetrics-text")];
    let open = platform.admin.send(Method::GET, "/metrics", &open, "").await;
    assert!(open.header("content-type").starts_with("application/openmetrics-text"));
    assert!(open.text().ends_with("# EOF\n"));
    for (format, text) in [("text", text.text()), ("OpenMetrics", open.text())] {
        for service in ["edge", "api", "retrieval", "ranking", "bandit", "llm", "embedder"] {
            for name in ["requests_total", "latency_seconds_bucket", "latency_seconds_count"] {
                assert!(text.contains(&format!("\n{service}_{name}{{")), "{service}_{name} is not in the {format}");
            }
        }
        let asked: f64 = text
            .lines()
            .filter(|l| l.starts_with("personalization_requests_total{") && l.contains("status=\"success\""))
            .map(|l| l.split("} ").nth(1).unwrap().split(' ').next().unwrap().parse::<f64>().unwrap())
            .sum();
        assert_eq!(asked, 5.0, "{format}");
    }
    assert!(open.text().contains("# {trace_id="), "no exemplar");
    for alive in ["cpu_usage_percent", "memory_limit_bytes", "vectordb_health_status", "retrieval_index_items"] {
        assert!(text.text().lines().any(|line| line.starts_with(alive)), "{alive} is missing");
    }
    for absent in ["kafka_consumer_lag", "redis_memory_used_bytes"] {
        assert!(text.text().contains(&format!("\n{absent}_samples 0")), "{absent} is not said to be absent");
    }
    // Every series that the services ask for is in the catalogue, and stays within its bounds.
    assert!(!text.text().contains("\ntelemetry_metric_conflicts_total{"), "{}", text.text());
    let exposition = text.text();
    let overflows = exposition.lines().filter(|line| line.starts_with("telemetry_label_overflow_total{"));
    assert!(overflows.clone().count() > 0 && overflows.clone().all(|line| line.ends_with(" 0")), "a label overflowed");
    let most = attune_telemetry::catalogue::worst_case(attune_telemetry::Label::all());
    let series = text.text().lines().filter(|line| !line.starts_with('#')).count();
    assert!(series <= most, "{series} series where the catalogue allows {most}");
    assert_eq!(platform.admin.get("/livez").await.status, 200);
    assert_eq!(platform.admin.get("/readyz").await.status, 200);
}

/// Runs `attune up` where it must not get ready, and gives its exit code and its one line.
fn refused(state: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = attune().args(["up", "--listen", "127.0.0.1:0", "--state"]).arg(state).args(args).output().unwrap();
    assert!(output.stdout.is_empty());
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    (output.status.code(), line)
}

#[tokio::test]
async fn a_start_that_cannot_be_is_refused_in_one_line() {
    let dir = state();
    let folder = dir.path().join("state");
    let platform = Platform::start(&dir, &[]);
    let (code, line) = refused(&folder, &[]);
    assert_eq!(code, Some(75), "{line}");
    assert!(line.contains(&platform.pid().to_string()), "{line}");
    assert!(platform.interrupt().success());

    for (settings, named) in [
        ("[edge.limits]\nconections = 5\n", "conections"),
        ("[edge]\norigin_deadline = \"soon\"\n", "origin_deadline"),
        ("[embedder]\nbatch_records = 0\n", "batch_records"),
        ("[frontdoor]\n", "frontdoor"),
        ("[edge\n", "settings.toml"),
    ] {
        let file = dir.path().join("settings.toml");
        fs::write(&file, settings).unwrap();
        let (code, line) = refused(&folder, &["--config", file.to_str().unwrap()]);
        assert_eq!(code, Some(64), "{line}");
        assert!(line.contains(named), "{line}");
    }
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("FORMAT"), "99\n").unwrap();
    let (code, line) = refused(&other, &[]);
    assert!(code == Some(65) && line.contains("99"), "{code:?} {line}");
    fs::remove_file(other.join("FORMAT")).unwrap();
    fs::write(other.join("letters.txt"), "mine").unwrap();
    assert_eq!(refused(&other, &[]).0, Some(65));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for more in [&[][..], &["--separate"]] {
        let output = attune().args(["up", "--listen", &address, "--state"]).arg(&folder).args(more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(75) && said.contains(&address), "{more:?} {said}");
    }
}

#[tokio::test]
async fn an_interrupted_platform_answers_what_was_begun() {
    let dir = state();
    let mut platform = Platform::start(&dir, &[]);
    platform.edge.page("u1").await;
    let mut begun = TcpStream::connect(platform.edge.host()).await.unwrap();
    let body = json!({"events": [event("last", "click", "u1", "i2")]}).to_string();
    let head = format!("POST /v1/feedback HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    begun.write_all(head.as_bytes()).await.unwrap();
    begun.write_all(&body.as_bytes()[..20]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    signal(platform.pid(), libc::SIGINT);
    while TcpStream::connect(platform.edge.host()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(platform.is_alive(), "it did not wait for the request");
    begun.write_all(&body.as_bytes()[20..]).await.unwrap();
    let mut answer = String::new();
    begun.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202") && answer.contains("\"accepted\":1"), "{answer}");
    assert!(platform.wait().success());
    let platform = Platform::start(&dir, &[]);
    let again = give(&platform, &[event("last", "click", "u1", "i2")]).await;
    assert_eq!(again["duplicates"], 1, "what was acknowledged at the end is in the log");
}
