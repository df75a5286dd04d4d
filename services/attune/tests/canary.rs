//! Plants words that nobody else would write wherever a visitor or an operator can put one, drives every endpoint of a
//! running platform with them, wrong requests and a failing origin included, and then looks for them in everything that
//! the platform wrote, showed or sent on.
//!
//! One of the edges speaks to its origin through a relay, which sees what goes over the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/scanner.rs"]
mod scanner;

use attune_identity::SubjectKey;
use http::Method;
use platform::*;
use relay::Relay;
use scanner::{Canary, files, songs};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SERVICES: [&str; 7] = ["edge", "origin", "retrieval", "ranking", "bandit", "llm", "embedder"];

/// The words of one run.
struct Words(Vec<(&'static str, String)>);

/// Whoever holds the state folder may find these in its stores, by design: items and what operators say
/// about them and about users in their topics, event ids where duplicates are known by them, a search (here with a
/// vector in it) in its decision record.
const STORED: [&str; 8] = ["item", "unknown item", "title", "category", "attribute", "event", "query", "vector"];

impl Words {
    fn new(rng: &mut Rng) -> Self {
        let kinds = [
            "user",
            "other user",
            "erased user",
            "session",
            "item",
            "unknown item",
            "title",
            "category",
            "attribute",
            "query",
            "event",
            "device",
            "route",
            "malformed",
            "field",
            "token",
            "cookie",
            "agent",
            "baggage",
            "tracestate",
            "origin's error",
        ];
        let mut words: Vec<_> = kinds.map(|kind| (kind, format!("Kanari{:016x}vogel", rng.next(u64::MAX)))).into();
        words.push(("vector", format!("0.{:016}", 1_000_000_000_000_000 + rng.next(9_000_000_000_000_000))));
        Self(words)
    }

    fn get(&self, kind: &str) -> &str {
        &self.0.iter().find(|(known, _)| *known == kind).unwrap().1
    }

    fn canaries(&self) -> Vec<Canary> {
        self.0.iter().map(|(kind, word)| Canary::new(*kind, word.as_bytes())).collect()
    }
}

/// A second edge of the platform, whose calls to the origin go through the relay.
struct Edge {
    /// Until it was ended.
    child: Option<Child>,
    site: Site,
    admin: Site,
}

impl Edge {
    async fn start(state: &Path, relay: &Relay) -> Self {
        let [listen, admin, grpc] = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |socket: &std::net::TcpListener| socket.local_addr().unwrap().to_string();
        let path = |name: &str| state.join(name).to_string_lossy().into_owned();
        let live = fs::read_to_string(state.join("bundles/live")).unwrap();
        let settings = [
            ("listen", address(&listen)),
            ("process.admin", address(&admin)),
            ("process.grpc.listen", address(&grpc)),
            ("process.instance", "edge-1".into()),
            ("own.bundle", path(&format!("bundles/{}", live.trim()))),
            ("own.subject_key", path("keys/subject.key")),
            ("own.origin", relay.address.clone()),
            ("experiment.holdout", "0.0".into()),
            ("process.telemetry.sample_normal", "1.0".into()),
            ("process.telemetry.sample_edge_only", "1.0".into()),
            ("process.telemetry.request_logs", "all".into()),
            ("process.telemetry.log_level", "trace".into()),
            ("process.telemetry.traces", path("traces/edge-1.otlp.jsonl")),
            ("process.telemetry.logs.file", path("logs/edge-1.jsonl")),
            ("process.telemetry.log_key.file", path("keys/log.key")),
        ];
        let (site, admin_site) =
            (Site::new(&format!("http://{}", address(&listen))), Site::new(&format!("http://{}", address(&admin))));
        drop((listen, admin, grpc));
        let mut command = attune();
        command.args(["service", "edge"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (key, value) in settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        let mut edge = Self { child: Some(command.spawn().unwrap()), site, admin: admin_site };
        let limit = Instant::now() + Duration::from_secs(60);
        while !matches!(edge.admin.try_send(Method::GET, "/readyz", &[], "").await, Ok(answer) if answer.status == 200)
        {
            if edge.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                panic!("the second edge ended: {:?}", edge.child.take().unwrap().wait_with_output().unwrap());
            }
            assert!(Instant::now() < limit, "the second edge was not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        edge
    }

    /// What it printed.
    fn end(mut self) -> Vec<u8> {
        let child = self.child.take().unwrap();
        signal(child.id(), libc::SIGINT);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        [output.stdout, output.stderr].concat()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill().is_ok() && child.wait().is_ok();
        }
    }
}

/// Headers with which a client could hope to leave something behind.
fn headers(words: &Words) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", "application/json".into()),
        ("authorization", format!("Bearer {}", words.get("token"))),
        ("x-api-key", words.get("token").into()),
        ("x-pz-debug", words.get("token").into()),
        ("cookie", format!("session={}", words.get("cookie"))),
        ("user-agent", words.get("agent").into()),
        ("baggage", format!("pz.exp={0},user={0}", words.get("baggage"))),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03".into()),
        ("tracestate", format!("vendor={}", words.get("tracestate"))),
    ]
}

async fn send(site: &Site, words: &Words, method: Method, path: &str, body: impl Into<bytes::Bytes>) -> Answer {
    let headers = headers(words);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    site.send(method, path, &headers, body).await
}

/// Every endpoint, right and wrong. Gives the statuses seen.
async fn drive(edge: &Edge, words: &Words) -> Vec<u16> {
    let mut seen = Vec::new();
    let mut post = async |path: &str, body: Value, status: u16| {
        let answer = send(&edge.site, words, Method::POST, path, body.to_string()).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        seen.push(status);
        answer
    };
    let (user, item) = (words.get("user"), words.get("item"));
    let session = json!({"device": "mobile", "geo": "us-west", "session_id": words.get("session")});
    let page = |page_type: &str, more: Value| {
        let mut body = json!({"user_id": user, "page_type": page_type, "limit": 10, "context": session});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let vector = words.get("vector");

    let product = send(
        &edge.admin,
        words,
        Method::PUT,
        &format!("/v1/items/{item}"),
        json!({
            "title": words.get("title"), "categories": [words.get("category"), "jazz"], "created_at": now(),
        })
        .to_string(),
    )
    .await;
    assert_eq!(product.status, 200, "{}", product.text());
    let wrong = send(
        &edge.admin,
        words,
        Method::PUT,
        &format!("/v1/items/{item}"),
        json!({"titel": words.get("field")}).to_string(),
    )
    .await;
    assert_eq!(wrong.status, 422);
    let attributes = json!({"attributes": {"age_bucket": words.get("attribute")}}).to_string();
    for kind in ["user", "erased user"] {
        let path = format!("/v1/users/{}", words.get(kind));
        let put = send(&edge.admin, words, Method::PUT, &path, attributes.clone()).await;
        assert_eq!(put.status, 200, "{}", put.text());
    }

    let first = post("/v1/personalize", page("home", json!({"explain": true})), 200).await.json();
    let request = first["request_id"].as_str().unwrap().to_owned();
    let shown = first["items"][0]["item_id"].as_str().unwrap().to_owned();
    post("/v1/personalize", page("home", json!({})), 200).await;
    post("/v1/personalize", page("search", json!({"query": format!("{} {vector}", words.get("query"))})), 200).await;
    post("/v1/personalize", page("cart", json!({})), 200).await;
    post("/v1/personalize", json!({"context": session}), 200).await;
    post("/v1/personalize", json!({}), 200).await;
    // Known or not, an item id that a visitor sends is a visitor's word.
    for kind in ["item", "unknown item"] {
        let body = page("product", json!({"item_id": words.get(kind)}));
        seen.push(send(&edge.site, words, Method::POST, "/v1/personalize", body.to_string()).await.status);
    }
    let flat =
        format!("/v1/personalize?user_id={}&session_id={}&limit=3", words.get("other user"), words.get("session"));
    seen.push(send(&edge.site, words, Method::GET, &flat, "").await.status);

    let click = |id: &str, item: &str| json!({"event_id": id, "type": "click", "user_id": user, "item_id": item, "request_id": request, "position": 0, "occurred_at": now()});
    let mut post = async |path: &str, body: Value, status: u16| {
        let answer = send(&edge.site, words, Method::POST, path, body.to_string()).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        seen.push(status);
    };
    let event = words.get("event");
    post("/v1/feedback", json!({"events": [click(event, &shown), click(&format!("{event}2"), item), click(&format!("{event}3"), words.get("unknown item"))]}), 202).await;
    post(
        "/v1/feedback",
        json!({"events": [click(event, &shown), {"event_id": event, "type": words.get("malformed")}]}),
        202,
    )
    .await;
    post("/v1/feedback", json!({"events": [{"event_id": format!("{event}4"), "type": "like", "user_id": words.get("erased user"), "item_id": shown, "occurred_at": now()}]}), 202).await;
    post("/v1/feedback", json!({"events": [{"event_id": event, "type": "click", "user_id": user, "item_id": words.get("malformed"), "occurred_at": "yesterday"}]}), 422).await;
    post("/v1/personalize", json!({"user_id": user, words.get("field"): vector}), 422).await;
    post("/v1/personalize", json!({"user_id": user, "limit": 0, "context": {"device": words.get("device")}}), 422)
        .await;
    post(&format!("/v1/{}", words.get("route")), json!({"user_id": user}), 404).await;

    for (method, path, body) in [
        (Method::POST, "/v1/personalize".to_owned(), format!("{{\"user_id\": {}", words.get("malformed")).into_bytes()),
        (Method::POST, "/v1/personalize".into(), [words.get("malformed").as_bytes(), &[0xff, 0xfe]].concat()),
        (Method::POST, "/v1/personalize".into(), words.get("malformed").repeat(40_000).into_bytes()),
        (Method::DELETE, format!("/v1/personalize?user_id={user}"), Vec::new()),
        (Method::GET, format!("/v1/personalize?user_id={user}&{}={vector}", words.get("field")), Vec::new()),
        (Method::GET, format!("/v1/explain?request_id={request}&item_id={shown}"), Vec::new()),
        (Method::GET, format!("/v1/explain?request_id={request}&item_id={}", words.get("unknown item")), Vec::new()),
        (Method::GET, format!("/v1/explain?request_id={}&item_id={item}", words.get("malformed")), Vec::new()),
        (Method::GET, format!("/v1/explain?request_id={:032x}&item_id={item}", 7), Vec::new()),
        (Method::GET, "/v1/about".into(), Vec::new()),
    ] {
        seen.push(send(&edge.site, words, method, &path, body).await.status);
    }
    let stream = [("accept", "text/event-stream")];
    let streamed =
        edge.site.send(Method::GET, &format!("/v1/explain?request_id={request}&item_id={shown}"), &stream, "").await;
    seen.push(streamed.status);
    let plain_text = [("content-type", "text/plain"), ("authorization", words.get("token"))];
    seen.push(
        edge.site.send(Method::POST, "/v1/personalize", &plain_text, words.get("malformed").to_owned()).await.status,
    );
    not_http(edge, words).await;
    seen
}

/// Bytes that are not a request at all.
async fn not_http(edge: &Edge, words: &Words) {
    let word = words.get("malformed");
    for text in [
        format!("{word}\r\n\r\n"),
        format!("GET /{word} HTTP/9.9\r\n{word}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {word}\r\n\r\n"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(edge.site.host()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _closed = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
    }
}

/// What an edge says while its origin fails and quotes the visitor.
async fn drive_broken(edge: &Edge, relay: &Relay, words: &Words) -> Vec<u16> {
    relay.refuse(Some(&format!("no such user {} {}", words.get("origin's error"), words.get("user"))));
    let click = json!({"events": [event(words.get("event"), "click", words.get("other user"), words.get("item"))]});
    let mut seen = Vec::new();
    for (site, method, path, body) in [
        (
            &edge.site,
            Method::POST,
            "/v1/personalize".to_owned(),
            json!({"user_id": format!("{}-new", words.get("other user"))}),
        ),
        (&edge.site, Method::POST, "/v1/feedback".into(), click),
        (
            &edge.site,
            Method::GET,
            format!("/v1/explain?request_id={:032x}&item_id={}", 9, words.get("item")),
            json!({}),
        ),
        (
            &edge.admin,
            Method::PUT,
            format!("/v1/items/{}", words.get("item")),
            json!({"title": words.get("title"), "categories": ["jazz"], "created_at": now()}),
        ),
        (&edge.admin, Method::DELETE, format!("/v1/users/{}", words.get("erased user")), json!({})),
    ] {
        seen.push(send(site, words, method, &path, body.to_string()).await.status);
    }
    relay.refuse(None);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn the_canaries_are_nowhere() {
    let words = Words::new(&mut Rng::of_run());
    let dir = state();
    let mut settings = String::from("[edge.experiment]\nholdout = 0.0\n");
    for service in SERVICES {
        let all = "sample_normal = 1.0\nsample_edge_only = 1.0\nrequest_logs = \"all\"\nlog_level = \"trace\"";
        writeln!(settings, "[{service}.process.telemetry]\n{all}").unwrap();
    }
    let file = dir.path().join("settings.toml");
    fs::write(&file, settings).unwrap();
    let platform = Platform::start(&dir, &["--separate", "--config", file.to_str().unwrap()]);
    let state = platform.state.clone();
    let relay = Relay::start(&format!(
        "http://{}",
        platform.ready["origin_grpc"].as_str().unwrap().trim_start_matches("http://")
    ))
    .await;
    let edge = Edge::start(&state, &relay).await;

    let mut statuses = drive(&edge, &words).await;
    let broken = drive_broken(&edge, &relay, &words).await;
    assert!(broken.contains(&503), "{broken:?}");
    // A fresh call each, as one that failed may leave its channel waiting.
    let erase = format!("/v1/users/{}", words.get("erased user"));
    let limit = Instant::now() + Duration::from_secs(30);
    while send(&edge.admin, &words, Method::DELETE, &erase, "").await.status != 200 {
        assert!(Instant::now() < limit, "the origin did not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let withdrawn = send(&edge.admin, &words, Method::DELETE, &format!("/v1/items/{}", words.get("item")), "").await;
    assert_eq!(withdrawn.status, 200);
    statuses.extend(broken);
    for status in [200, 202, 400, 404, 405, 413, 415, 422, 503] {
        assert!(statuses.contains(&status), "no answer was {status}: {statuses:?}");
    }

    // What the operators' ports show.
    let admins =
        platform.ready["admin"].as_object().unwrap().values().map(|address| Site::new(address.as_str().unwrap()));
    let mut shown = Vec::new();
    for admin in admins.chain([edge.admin.clone()]) {
        for accept in ["text/plain", "application/openmetrics-text; version=1.0.0"] {
            shown.extend(admin.send(Method::GET, "/metrics", &[("accept", accept)], "").await.body);
        }
        shown.extend(admin.get("/readyz").await.body);
    }
    let printed = edge.end();
    assert!(platform.interrupt().success());

    let canaries = words.canaries();
    let all = || canaries.iter();
    // The pseudonym itself is for stores; what logs and spans may say is its weekly hash.
    let key = SubjectKey::load(&state.join("keys/subject.key")).unwrap();
    let mut uids: Vec<_> = ["user", "other user", "erased user"]
        .map(|kind| Canary::new(format!("uid of {kind}"), &key.uid(words.get(kind)).0[1..]))
        .into();
    uids.push(Canary::new("uid of session", &key.uid_of_session(words.get("session")).0[1..]));
    // Categories of items are values of `item_segment`.
    let is_no_label = |canary: &&Canary| canary.what != "category";
    let mut found = songs(all().filter(is_no_label).chain(&uids), "metrics", &shown);
    found.extend(songs(all().chain(&uids), "what the edge printed", &printed));
    found.extend(songs(all().chain(&uids), "headers between the services", &relay.headers()));
    let to_the_origin = |canary: &&Canary| !STORED.contains(&canary.what.as_str());
    found.extend(songs(all().filter(to_the_origin), "calls between the services", &relay.bodies()));
    let mut lines = String::new();
    let mut stored = Vec::new();
    for (name, bytes) in files(&state) {
        let telemetry = name.starts_with("logs/") || name.starts_with("traces/");
        if telemetry {
            found.extend(songs(all().chain(&uids), &name, &bytes));
            lines.push_str(&String::from_utf8_lossy(&bytes));
        } else {
            let is_allowed = |canary: &&Canary| STORED.contains(&canary.what.as_str());
            found.extend(songs(all().filter(|canary| !is_allowed(canary)), &name, &bytes));
            stored.extend(
                all().filter(is_allowed).filter(|canary| canary.found_in(&bytes).is_some()).map(|c| c.what.clone()),
            );
        }
    }
    assert!(found.is_empty(), "{} canaries sing:\n{}", found.len(), found.join("\n"));

    // That there was something to look through, and that looking through stores finds what is allowed to be there.
    for event in [
        "personalization_complete",
        "feedback_accepted",
        "explanation_given",
        "fallback_used",
        "request_failed",
        "item_changed",
        "user_updated",
        "user_erased",
        "model_deployed",
        "service_ready",
        "service_stopped",
    ] {
        assert!(lines.contains(&format!("\"event\":\"{event}\"")), "no line of {event}");
    }
    assert!(lines.contains("\"user_id_hash\":\"hmac-sha256:w") && lines.contains("edge.personalize"));
    assert!(String::from_utf8_lossy(&relay.headers()).contains("traceparent: 00-"), "the relay saw the calls");
    for kind in ["item", "event"] {
        assert!(stored.contains(&kind.to_owned()), "the scanner did not find the {kind} in the stores: {stored:?}");
    }
}
