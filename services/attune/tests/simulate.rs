//! Simulated visitors against a real HTTP server that knows the world's truth, checks every event, and fails on purpose.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use attune::simulate::{WalkOptions, walk};
use attune_dataset::{World, WorldConfig};
use attune_domain::{Context, Device, EventKind, Geo, ItemIx, PageType};
use attune_runtime::{Exit, Fatal, Shutdown};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;

/// What the server does besides answering well.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Well,
    /// Every few requests an error of each kind.
    Badly,
    /// Answers from a catalogue that is not the world's.
    Strangely,
}

struct Server {
    world: Arc<World>,
    manner: Manner,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: u64,
    feedbacks: u64,
    /// What was shown, by request id.
    slates: HashMap<String, (String, Vec<String>)>,
    /// Kinds of the accepted events, by event id.
    events: HashMap<String, EventKind>,
    duplicates: u64,
    users: HashSet<String>,
    /// (user, item) of every click.
    clicked: HashSet<(String, String)>,
    pages: HashSet<String>,
    versions: HashSet<String>,
    problems: Vec<String>,
}

impl Server {
    async fn start(world: &Arc<World>, manner: Manner) -> (Arc<Self>, String) {
        let server = Arc::new(Self { world: world.clone(), manner, seen: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let server = server.clone();
                        async move { server.answer(request).await }
                    });
                    // A connection ends in an error when the server drops it on purpose.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        (server, address)
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let path = request.uri().path().to_owned();
        let version = request.headers().get("x-attune-version").map(|v| v.to_str().unwrap().to_owned());
        self.seen.lock().versions.extend(version);
        let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
        match path.as_str() {
            // The probe before the walk.
            _ if body.is_empty() => Ok(status(422, "{}".into())),
            "/v1/personalize" => self.personalize(&body).await,
            "/v1/feedback" => Ok(self.feedback(&body)),
            _ => Ok(status(404, "{}".into())),
        }
    }

    async fn personalize(&self, body: &[u8]) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let ask: Value = serde_json::from_slice(body).unwrap();
        let number = {
            let mut seen = self.seen.lock();
            seen.requests += 1;
            seen.requests
        };
        if self.manner == Manner::Badly {
            match number % 10 {
                1 => return Ok(status(500, "{}".into())),
                2 => return Ok(status(200, "{\"items\":".into())),
                3 => return Ok(status(422, "{}".into())),
                4 => return Ok(status(429, "{}".into())),
                5 => return Err(std::io::Error::other("dropped on purpose")),
                6 => std::future::pending().await,
                7 => return Ok(status(200, "x".repeat(3 << 20))),
                _ => {}
            }
        }
        let user_id = ask["user_id"].as_str().unwrap();
        let user: u32 = user_id.strip_prefix("visitor-").unwrap().parse().unwrap();
        let page = ask["page_type"].as_str().unwrap();
        let context = Context {
            page: PageType::parse(page).unwrap(),
            device: Device::parse(ask["context"]["device"].as_str().unwrap()).unwrap(),
            geo: Geo::parse(ask["context"]["geo"].as_str().unwrap()).unwrap(),
        };
        let mut seen = self.seen.lock();
        if context.page == PageType::Product && self.world.find(ask["item_id"].as_str().unwrap_or("")).is_none() {
            seen.problems.push("a product page without a product".into());
        }
        seen.pages.insert(page.to_owned());
        seen.users.insert(user_id.to_owned());
        let limit = ask["limit"].as_u64().unwrap() as usize;
        // The holdout gets the same twenty items whoever asks, the treatment the best that it has not opened.
        let (variant, slate) = if user.is_multiple_of(3) {
            ("holdout", (0..limit as u32).map(ItemIx).collect::<Vec<_>>())
        } else {
            let name = |ix: &ItemIx| self.world.items()[ix.index()].id.to_string();
            let fresh = |ix: &ItemIx| !seen.clicked.contains(&(user_id.to_owned(), name(ix)));
            let best = self.world.oracle_slate(user, context, self.world.items().len());
            ("treatment", best.into_iter().filter(fresh).take(limit).collect())
        };
        let prefix = if self.manner == Manner::Strangely { "film-" } else { "" };
        let id = |ix: &ItemIx| format!("{prefix}{}", self.world.items()[ix.index()].id);
        let ids: Vec<String> = slate.iter().map(id).collect();
        let request_id = format!("{number:032x}");
        let items: Vec<Value> =
            ids.iter().map(|id| json!({"item_id": id, "score": 0.5, "reason": "popular"})).collect();
        seen.slates.insert(request_id.clone(), (user_id.to_owned(), ids));
        let hit = number % 2 == 0;
        let document = json!({
            "request_id": request_id, "items": items, "tier": "edge", "cache": if hit { "hit" } else { "miss" },
            "level": u8::from(!hit), "level_reason": null, "source": "personalized", "variant": variant,
            "model_version": "m1\u{1b}[2J", "watermark": null,
        });
        let mut response = status(200, document.to_string());
        response.headers_mut().insert("x-attune-version", number.into());
        Ok(response)
    }

    fn feedback(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let batch: Value = serde_json::from_slice(body).unwrap();
        let mut seen = self.seen.lock();
        seen.feedbacks += 1;
        let (mut accepted, mut duplicates) = (0u64, 0u64);
        let mut last = String::new();
        let (mut problems, mut clicks) = (Vec::new(), Vec::new());
        for event in batch["events"].as_array().unwrap() {
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            let (user, shown) = &seen.slates[&text("request_id")];
            let position = event["position"].as_u64().unwrap() as usize;
            if *user != text("user_id") || shown[position] != text("item_id") {
                problems.push(format!("not what was shown: {event}"));
            }
            let kind = EventKind::parse(&text("type")).unwrap();
            if matches!(kind, EventKind::Dwell | EventKind::Conversion) != event["value"].is_number() {
                problems.push(format!("value: {event}"));
            }
            let at = OffsetDateTime::parse(&text("occurred_at"), &Rfc3339).unwrap();
            let age = OffsetDateTime::now_utc() - at;
            if age.is_negative() && age.whole_seconds() < -60 {
                problems.push(format!("in the future: {event}"));
            }
            if kind.is_interaction() && !last.is_empty() && text("occurred_at") == last {
                problems.push(format!("at the same time as the event before: {event}"));
            }
            last = text("occurred_at");
            if kind == EventKind::Click {
                clicks.push((text("user_id"), text("item_id")));
            }
            match seen.events.insert(text("event_id"), kind) {
                None => accepted += 1,
                Some(_) => duplicates += 1,
            }
        }
        seen.problems.extend(problems);
        seen.clicked.extend(clicks);
        seen.duplicates += duplicates;
        // Taken, but the receipt gets lost: the client must send the same events again.
        if self.manner == Manner::Badly && seen.feedbacks.is_multiple_of(3) {
            return status(503, "{}".into());
        }
        status(202, json!({"accepted": accepted, "duplicates": duplicates, "rejected": []}).to_string())
    }
}

fn status(code: u16, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

fn world(seed: u64) -> Arc<World> {
    let config = WorldConfig { seed, items: 300, users: 500, ..WorldConfig::default() };
    Arc::new(World::new(config).unwrap())
}

fn options(edge: &str, world: &Arc<World>, visitors: usize) -> WalkOptions {
    let mut options = WalkOptions::new(edge, world.clone(), visitors, 5);
    options.rate = 2_000.0;
    options.speed = 400.0;
    options.duration = Some(Duration::from_secs(4));
    options.timeout = Duration::from_secs(10);
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_tells_what_was_shown_done_and_learnt() {
    let world = world(3);
    let (server, address) = Server::start(&world, Manner::Well).await;
    let report = walk(options(&address, &world, 90), Shutdown::new()).await.unwrap();

    let seen = server.seen.lock();
    assert_eq!(seen.problems, [""; 0]);
    assert!(report.errors.is_empty(), "{report:?}");
    assert!(report.answers > 200 && report.answers <= report.requests, "{report:?}");
    assert_eq!(report.visitors, 90);
    assert_eq!(seen.users.len(), 90);
    assert!(seen.users.contains("visitor-500"), "every fifth is beyond the history");
    assert!(seen.pages.len() == 4, "{:?}", seen.pages);
    assert!(seen.versions.len() > 10, "the newest version comes back with the next request");

    assert!((report.hit_share.unwrap() - 0.5).abs() < 0.05, "{report:?}");
    assert_eq!(report.levels[0] + report.levels[1], report.answers);
    assert_eq!(report.latency.samples, report.answers);
    assert!(report.latency.p50_ms.unwrap() <= report.latency.p99_ms.unwrap());
    assert_eq!(report.model_versions, ["m1[2J"], "no control character reaches the terminal");
    assert_eq!(report.unknown_items, 0);

    let feedback = report.feedback;
    assert_eq!((feedback.accepted, feedback.duplicates, feedback.lost), (feedback.events, 0, 0));
    assert!(feedback.accepted > 1_000 && feedback.accepted <= seen.events.len() as u64);
    for kind in [EventKind::Impression, EventKind::Click, EventKind::Dwell, EventKind::Conversion] {
        assert!(seen.events.values().any(|k| *k == kind), "{kind}");
    }

    // The treatment got the best slates, so there is nothing left to know.
    let truth = report.truth.overall.unwrap();
    assert!((truth.known - 1.0).abs() < 1e-9 && truth.oracle > 2.0 * truth.random, "{truth:?}");
    assert!(report.truth.first.is_some() && report.truth.now.is_some(), "{:?}", report.truth);
    let lift = report.lift.unwrap();
    assert!(lift.low > 0.0 && lift.low < lift.value && lift.value < lift.high, "{lift:?}");
    let (treatment, holdout) = (report.treatment, report.holdout);
    assert_eq!(treatment.visitors + holdout.visitors, 90);
    assert!((treatment.ctr.unwrap() / treatment.expected_ctr.unwrap() - 1.0).abs() < 0.1, "{treatment:?}");
    assert_eq!(report.examples.len(), 5);
    assert!(report.examples.iter().any(|e| !e.known_to_history));
    assert!(report.examples.iter().all(|e| !e.likes.is_empty() && !e.shown.is_empty() && e.visits > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_failure_is_counted_and_no_event_counts_twice() {
    let world = world(3);
    let (server, address) = Server::start(&world, Manner::Badly).await;
    let mut options = options(&address, &world, 200);
    options.duration = Some(Duration::from_secs(6));
    options.timeout = Duration::from_millis(500);
    let report = walk(options, Shutdown::new()).await.unwrap();

    let seen = server.seen.lock();
    assert_eq!(seen.problems, [""; 0]);
    for kind in ["connect", "timeout", "shed", "refused", "server", "malformed"] {
        assert!(report.errors.get(kind).is_some_and(|count| *count > 0), "{kind}: {:?}", report.errors);
    }
    assert!(report.answers > 0 && report.answers < report.requests);
    let feedback = report.feedback;
    assert!(feedback.duplicates > 0, "a lost receipt is asked for again: {feedback:?}");
    assert_eq!(feedback.accepted + feedback.duplicates + feedback.lost, feedback.events);
    assert!(seen.duplicates >= feedback.duplicates);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_without_an_end_stops_at_the_shutdown() {
    let world = world(3);
    let (server, address) = Server::start(&world, Manner::Well).await;
    let shutdown = Shutdown::new();
    let mut options = options(&address, &world, 20);
    options.duration = None;
    let walking = tokio::spawn(walk(options, shutdown.clone()));
    while server.seen.lock().feedbacks < 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shutdown.trigger();
    let report = walking.await.unwrap().unwrap();
    assert!(report.answers >= 10 && report.truth.now.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_data_and_an_absent_platform_are_told_apart() {
    let world = world(3);
    let (server, address) = Server::start(&world, Manner::Strangely).await;
    let mut strange = options(&address, &world, 30);
    strange.duration = None;
    let error = walk(strange, Shutdown::new()).await.unwrap_err();
    assert_eq!(Fatal::code_of(&error), Exit::Data, "{error:#}");
    assert!(error.to_string().contains("simulated world"), "{error}");
    assert!(server.seen.lock().requests >= 20);

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = walk(options(&format!("http://{nobody}"), &world, 5), Shutdown::new()).await.unwrap_err();
    assert_eq!(Fatal::code_of(&error), Exit::TryLater);
    let mut wrong = options(&address, &world, 5);
    wrong.visitors = 0;
    assert_eq!(Fatal::code_of(&walk(wrong, Shutdown::new()).await.unwrap_err()), Exit::Usage);
}
