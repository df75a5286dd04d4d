//! Seven processes under constant load, each in turn frozen and killed: visitors notice a level and its reason, never a
//! failure, and the platform comes back by itself. And each in turn replaced, as an upgrade does: nobody notices at all.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;

use attune_runtime::ReservedPort;
use http::Method;
use parking_lot::Mutex;
use platform::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FREEZE: Duration = Duration::from_secs(10);
/// From the end of a fault to level 0.
const RECOVERY: Duration = Duration::from_secs(30);
const PAGES_PER_SECOND: u32 = 50;
const LOADERS: u32 = 5;
/// No page may take longer, whatever has happened to the services behind the edge.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Answers in a row at level 0 that count as calm.
const CALM: usize = 50;

/// A service, and the reasons of which one must be given while it is missed.
const SERVICES: [(&str, &[&str]); 6] = [
    ("retrieval", &["retrieval_unavailable", "retrieval_partial"]),
    ("ranking", &["ranking_unavailable"]),
    ("bandit", &["bandit_unavailable"]),
    ("llm", &[]),
    ("embedder", &["state_unavailable"]),
    ("origin", &["origin_unavailable", "origin_timeout"]),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Frozen,
    Killed,
}

struct Sample {
    at: Instant,
    took: Duration,
    level: u64,
    reason: Option<String>,
}

/// The edges that take requests.
#[derive(Clone)]
struct Edges(Arc<Mutex<Vec<Site>>>);

impl Edges {
    fn new(edges: impl Into<Vec<Site>>) -> Self {
        Self(Arc::new(Mutex::new(edges.into())))
    }

    fn one(&self, turn: u32) -> Site {
        let edges = self.0.lock();
        edges[turn as usize % edges.len()].clone()
    }
}

/// What visitors saw, in order.
#[derive(Default)]
struct Seen {
    samples: Mutex<Vec<Sample>>,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Seen {
    /// Pages at a constant rate: visitors the edge holds, and new ones, whom it must ask the origin about.
    async fn load(self: Arc<Self>, edges: Edges, number: u32) {
        let every = Duration::from_secs(1) * LOADERS / PAGES_PER_SECOND;
        let mut turn = number;
        // One after the other, not all at once.
        let mut due = tokio::time::Instant::now() + every * number / LOADERS;
        tokio::time::sleep_until(due).await;
        while !self.stop.load(Ordering::Relaxed) {
            turn += LOADERS;
            let body = match turn % 3 {
                0 => json!({"user_id": format!("u{}", turn % 20), "limit": 10}),
                1 => json!({"user_id": format!("newcomer {turn}"), "limit": 10}),
                _ => {
                    json!({"user_id": format!("u{}", turn % 20), "page_type": "product", "item_id": "i7", "limit": 10})
                }
            };
            let at = Instant::now();
            let answer = edges.one(turn / LOADERS).try_post("/v1/personalize", &body).await;
            let took = at.elapsed();
            match answer {
                Ok(answer) if answer.status == 200 && took < PATIENCE => {
                    let page = answer.json();
                    if page["items"].as_array().unwrap().len() != 10 {
                        self.failures.lock().push(format!("not ten items: {page}"));
                    }
                    self.samples.lock().push(Sample {
                        at,
                        took,
                        level: page["level"].as_u64().unwrap(),
                        reason: page["level_reason"].as_str().map(str::to_owned),
                    });
                }
                Ok(answer) => self.failures.lock().push(format!("{} after {took:?}: {}", answer.status, answer.text())),
                Err(error) => self.failures.lock().push(error),
            }
            due += every;
            tokio::time::sleep_until(due).await;
        }
    }

    /// Waits until the last answers all were at level 0 without a reason; gives how long that took.
    async fn calm(&self, case: &str, limit: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            {
                let samples = self.samples.lock();
                let newest = &samples[samples.len().saturating_sub(CALM)..];
                let since = newest.iter().filter(|s| s.at > begun).count();
                if since == CALM && newest.iter().all(|s| s.level == 0 && s.reason.is_none()) {
                    return newest[0].at - begun;
                }
                assert!(begun.elapsed() < limit, "{case}: still {:?}", counted(newest.iter()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn counted<'s>(samples: impl Iterator<Item = &'s Sample>) -> BTreeMap<(u64, &'s str), usize> {
    let mut counts = BTreeMap::new();
    for sample in samples {
        *counts.entry((sample.level, sample.reason.as_deref().unwrap_or("-"))).or_default() += 1;
    }
    counts
}

/// One event every 20 ms; keeps what was acknowledged, and holds every refusal against the contract.
async fn feed(edges: Edges, seen: Arc<Seen>) -> (Vec<Value>, usize) {
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for number in 0.. {
        if seen.stop.load(Ordering::Relaxed) {
            break;
        }
        let event = event(&format!("e{number}"), "click", &format!("feeder {}", number % 7), &item(number % ITEMS));
        let answer = edges.one(number).post("/v1/feedback", &json!({"events": [event]})).await;
        match answer.status {
            202 => acknowledged.push(event),
            503 if answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0) => refused += 1,
            _ => seen.failures.lock().push(format!("feedback: {} {}", answer.status, answer.text())),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (acknowledged, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_visitor_notices_more_than_a_level() {
    let dir = state();
    let settings = dir.path().join("settings.toml");
    fs::write(&settings, "[edge.experiment]\nholdout = 0.0\n").unwrap();
    let platform = Platform::start(&dir, &["--separate", "--config", settings.to_str().unwrap()]);
    for (service, _) in SERVICES {
        assert_eq!(platform.ready["pids"][service].as_u64(), platform.pid_of(service).map(u64::from), "{service}");
    }
    let seen = Arc::new(Seen::default());
    let edges = Edges::new([platform.edge.clone()]);
    let loading: Vec<_> = (0..LOADERS).map(|n| tokio::spawn(Arc::clone(&seen).load(edges.clone(), n))).collect();
    let feeding = tokio::spawn(feed(edges, Arc::clone(&seen)));
    seen.calm("the start", RECOVERY).await;

    let mut missing = Vec::new();
    for fault in [Fault::Frozen, Fault::Killed] {
        for (service, reasons) in SERVICES {
            let case = format!("{service} {fault:?}");
            let begun = Instant::now();
            let pid = platform.pid_of(service).unwrap_or_else(|| panic!("{service} does not run"));
            match fault {
                Fault::Frozen => {
                    freeze(pid);
                    tokio::time::sleep(FREEZE).await;
                    signal(pid, libc::SIGCONT);
                }
                Fault::Killed => signal(pid, libc::SIGKILL),
            }
            let took = seen.calm(&case, RECOVERY).await;
            if fault == Fault::Killed {
                assert_ne!(platform.pid_of(service).unwrap_or_else(|| panic!("{service} is not back")), pid);
            }
            let samples = seen.samples.lock();
            let during: Vec<_> = samples.iter().filter(|s| s.at >= begun).collect();
            let slowest = during.iter().map(|s| s.took).max().unwrap_or_default();
            let counts = counted(during.iter().copied());
            println!("{case}: calm after {took:.1?}, slowest page {slowest:.0?}, {counts:?}");
            // One that is back before its callers' patience ends is missed by nobody.
            let told = reasons.is_empty()
                || (fault == Fault::Killed && counts.len() == 1)
                || counts.keys().any(|(_, reason)| reasons.contains(reason));
            if !told {
                missing.push(case);
            }
        }
    }
    seen.stop.store(true, Ordering::Relaxed);
    for loader in loading {
        loader.await.unwrap();
    }
    let (acknowledged, refused) = feeding.await.unwrap();
    let failures = std::mem::take(&mut *seen.failures.lock());
    assert!(failures.is_empty(), "{} failures, such as {:?}", failures.len(), &failures[..failures.len().min(5)]);
    assert!(missing.is_empty(), "nobody was told: {missing:?}");
    kept(&platform.edge, &acknowledged).await;
    println!(
        "{} pages, none failed; {} events acknowledged and kept, {refused} refused with 503 and retry-after",
        seen.samples.lock().len(),
        acknowledged.len()
    );
    assert!(refused > 0 && acknowledged.len() > 1_000, "{refused} refused, {} acknowledged", acknowledged.len());
    assert!(platform.interrupt().success());
}

/// Sent again, each is known: none of the acknowledged ones was lost.
async fn kept(edge: &Site, acknowledged: &[Value]) {
    for events in acknowledged.chunks(500) {
        let answer = edge.post("/v1/feedback", &json!({ "events": events })).await;
        assert_eq!((answer.status, &answer.json()["duplicates"]), (202, &json!(events.len())), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_noticed_by_nobody() {
    let dir = state();
    let settings = dir.path().join("settings.toml");
    fs::write(&settings, "[edge]\nfeedback_deadline = \"5s\"\n[edge.experiment]\nholdout = 0.0\n").unwrap();
    let platform = Platform::start(&dir, &["--separate", "--config", settings.to_str().unwrap()]);
    let port = ReservedPort::reserve(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let listen = port.address().to_string();
    let second = platform.second("edge", &[("listen", &listen)]).unwrap();
    ready(&second.admin).await;
    let both = [platform.edge.clone(), Site::new(&format!("http://{listen}"))];
    let edges = Edges::new(both.clone());
    let seen = Arc::new(Seen::default());
    let loading: Vec<_> = (0..LOADERS).map(|n| tokio::spawn(Arc::clone(&seen).load(edges.clone(), n))).collect();
    let feeding = tokio::spawn(feed(edges.clone(), Arc::clone(&seen)));
    seen.calm("the start", RECOVERY).await;
    for service in ["retrieval", "ranking", "bandit", "llm", "embedder", "origin", "edge"] {
        let begun = Instant::now();
        // Who balances the load leaves an edge alone before it is told to end.
        if service == "edge" {
            edges.0.lock().remove(0);
            tokio::time::sleep(PATIENCE).await;
        }
        let pid = platform.pid_of(service).unwrap();
        signal(pid, libc::SIGTERM);
        while platform.pid_of(service).is_none_or(|now| now == pid) {
            assert!(begun.elapsed() < RECOVERY, "{service} is not back");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ready(&Site::new(platform.ready["admin"][service].as_str().unwrap())).await;
        *edges.0.lock() = both.to_vec();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let samples = seen.samples.lock();
        let counts = counted(samples.iter().filter(|s| s.at >= begun));
        println!("{service}: replaced after {:.1?}, {counts:?}", begun.elapsed());
    }
    seen.stop.store(true, Ordering::Relaxed);
    for loader in loading {
        loader.await.unwrap();
    }
    let (acknowledged, refused) = feeding.await.unwrap();
    let failures = std::mem::take(&mut *seen.failures.lock());
    assert!(failures.is_empty(), "{} failures, such as {:?}", failures.len(), &failures[..failures.len().min(5)]);
    assert_eq!(refused, 0, "events refused");
    kept(&platform.edge, &acknowledged).await;
    println!("{} pages and {} events, none refused or lost", seen.samples.lock().len(), acknowledged.len());
    assert!(acknowledged.len() > 100);
    drop(second);
    assert!(platform.interrupt().success());
}

/// Waits until a process says that it may be given work.
async fn ready(admin: &Site) {
    let begun = Instant::now();
    while !admin.try_send(Method::GET, "/readyz", &[], "").await.is_ok_and(|answer| answer.status == 200) {
        assert!(begun.elapsed() < RECOVERY, "{} is not ready", admin.address);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// While the writer of explanations is gone or hangs, what the origin knows itself is still said.
#[tokio::test]
async fn without_the_llm_service_an_explanation_is_plain() {
    let dir = state();
    let platform = Platform::start(&dir, &["--separate"]);
    let page = platform.edge.page("u5").await;
    let request = page.json()["request_id"].as_str().unwrap().to_owned();
    freeze(platform.pid_of("llm").unwrap());
    let path = format!("/v1/explain?request_id={request}&item_id={}", page.items()[0]);
    let begun = Instant::now();
    let answer = platform.edge.get(&path).await;
    println!("explained after {:.1?}: {}", begun.elapsed(), answer.text());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json()["text"].as_str().unwrap().len() > 10);
    signal(platform.pid_of("llm").unwrap(), libc::SIGKILL);
    let answer = platform.edge.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}
