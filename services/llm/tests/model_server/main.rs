//! The reasoner against a real HTTP server: what it asks, what it makes of every way to answer, and what it costs.

#![expect(clippy::unwrap_used, reason = "a test may fail there")]

mod grpc;
mod server;

use attune_config::load_checked;
use attune_llm::factors::{Factors, RawFactor};
use attune_llm::reason::{Piece, Reasoner, Summary};
use attune_llm::telemetry::Fallback;
use attune_llm::{LlmConfig, reasoner, template};
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::{Clock, Scope, ServiceInfo, Telemetry, TelemetryConfig};
use futures::StreamExt as _;
use server::{Act, Server, done, event, finish, good, raw, text, usage};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use tokio::sync::Notify;

const GOOD: &str = "You liked Heat, and this is similar.";

fn factors(title: &str) -> Factors {
    let raw = RawFactor { code: "similar_to_recent".into(), weight: 1.0, evidence: vec!["Heat".into()] };
    Factors::new(title, &["Crime".into()], &[raw]).unwrap()
}

fn config(base_url: &str, overrides: &[(&str, &str)]) -> LlmConfig {
    let mut all =
        vec![("backend".to_owned(), "openai".to_owned()), ("openai.base_url".to_owned(), base_url.to_owned())];
    // Long, so that only a test about time runs into them.
    for key in ["openai.first_chunk_timeout", "openai.total_timeout", "openai.concurrency.wait"] {
        all.push((key.to_owned(), "60s".to_owned()));
    }
    all.extend(overrides.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    load_checked("llm", attune_llm::config::DEFAULT_TOML, None, &all, LlmConfig::check).unwrap()
}

struct Rig {
    reasoner: Arc<Reasoner>,
    telemetry: Telemetry,
    guard: attune_telemetry::Guard,
}

fn rig_with(config: &LlmConfig, telemetry: TelemetryConfig) -> Rig {
    let clock: Clock = Arc::new(|| 1_700_000_000_000);
    let info = ServiceInfo { service: "llm", version: "0", instance: "test".into() };
    let (telemetry, guard) = Telemetry::start(&telemetry, info, clock.clone()).unwrap();
    Rig { reasoner: reasoner(config, &telemetry, clock).unwrap(), telemetry, guard }
}

fn rig(config: &LlmConfig) -> Rig {
    rig_with(config, TelemetryConfig { logs: attune_telemetry::LogTarget::Off, ..Default::default() })
}

impl Rig {
    async fn ask(&self, factors: Factors) -> (String, Summary) {
        let pieces: Vec<_> = self.reasoner.reason(factors, Scope::detached()).collect().await;
        let (last, texts) = pieces.split_last().unwrap();
        let Piece::Last(summary) = last else { panic!("the last piece is the summary") };
        let text = texts
            .iter()
            .map(|p| match p {
                Piece::Text(text) => text.as_str(),
                Piece::Last(_) => panic!("one summary"),
            })
            .collect();
        (text, summary.clone())
    }

    /// The answer must be the template's, for this reason.
    async fn falls_back(&self, title: &str, why: Fallback) {
        let (text, summary) = self.ask(factors(title)).await;
        assert_eq!((text, summary.fallback), (template::explain(&factors(title)), Some(why)));
        assert_eq!(summary.model.as_str(), "template");
    }

    fn metric(&self, series: &str) -> f64 {
        let all = encode(std::slice::from_ref(&self.telemetry), Format::Text);
        let line = all.lines().find(|l| l.starts_with(series) && !l.starts_with('#'));
        line.and_then(|l| l.rsplit(' ').next()).unwrap_or_else(|| panic!("{series} in {all}")).parse().unwrap()
    }
}

#[tokio::test]
async fn sentences_arrive_while_the_rest_is_still_being_written() {
    let go_on = Arc::new(Notify::new());
    let server = Server::always(vec![
        text("You liked He"),
        text("at. It is"),
        Act::Await(go_on.clone()),
        text(" similar to it."),
        finish("stop"),
        usage(100, 20),
        done(),
    ])
    .await;
    let rig = rig(&config(&server.base_url(), &[("openai.api_key", "sk-test")]));
    let mut answer = rig.reasoner.reason(factors("Ronin"), Scope::detached());
    assert_eq!(answer.next().await, Some(Piece::Text("You liked Heat.".into())));
    go_on.notify_one();
    assert_eq!(answer.next().await, Some(Piece::Text(" It is similar to it.".into())));
    let Some(Piece::Last(summary)) = answer.next().await else { panic!("a summary") };
    assert_eq!(answer.next().await, None);
    assert_eq!((summary.tokens.input, summary.tokens.output), (100, 20));
    assert_eq!((summary.model.as_str(), summary.cached, summary.fallback), ("default", false, None));

    let (headers, path, body) = server.seen.last.lock().take().unwrap();
    assert_eq!(path, "/v1/chat/completions");
    assert_eq!(headers["authorization"], "Bearer sk-test");
    assert_eq!((&body["stream"], &body["max_tokens"], &body["model"]), (&true.into(), &120.into(), &"default".into()));
    let asked: serde_json::Value = serde_json::from_str(body["messages"][1]["content"].as_str().unwrap()).unwrap();
    assert_eq!((&asked["item"], &asked["factors"][0]["names"][0]), (&"Ronin".into(), &"Heat".into()));
}

#[tokio::test]
async fn a_cached_explanation_asks_nobody_and_costs_nothing() {
    let server = Server::always(good(&[GOOD])).await;
    let rig = rig(&config(&server.base_url(), &[]));
    for (n, cached) in [(1, false), (1, true), (1, true)] {
        let (text, summary) = rig.ask(factors("Ronin")).await;
        assert_eq!((text.as_str(), summary.cached, server.seen.requests()), (GOOD, cached, n));
    }
    assert!(!rig.ask(factors("Casino")).await.1.cached);
    assert_eq!(server.seen.requests(), 2);
    assert_eq!(rig.metric("llm_cache_lookups_total{result=\"hit\"}"), 2.0);
    assert_eq!(rig.metric("llm_backend_calls_total{outcome=\"ok\"}"), 2.0);
}

#[tokio::test]
async fn every_failure_is_answered_by_the_template_with_its_reason() {
    let html = vec![Act::MediaType("text/html"), raw("<p>hello")];
    let long = "x".repeat(attune_llm::sse::MAX_EVENT_BYTES + 10);
    let cases: Vec<(&str, Vec<Act>, Fallback)> = vec![
        ("500", vec![Act::Status(500)], Fallback::BackendError),
        ("404", vec![Act::Status(404), raw("no such model")], Fallback::BackendError),
        ("429", vec![Act::Status(429)], Fallback::RateLimited),
        ("media type", html, Fallback::BackendError),
        ("no json", vec![raw("data: {nonsense\n\n")], Fallback::BackendError),
        ("no utf-8", vec![Act::Send(b"data: \xff\xfe\n\n".to_vec())], Fallback::BackendError),
        ("endless event", vec![raw(&long)], Fallback::BackendError),
        (
            "error object",
            vec![text("You"), event(&serde_json::json!({ "error": { "message": "m" } }))],
            Fallback::BackendError,
        ),
        ("half an event", vec![raw("data: {\"choices\":[{\"del")], Fallback::CutOff),
        ("half a body", vec![text("You liked"), Act::Abort], Fallback::CutOff),
        ("no finish", vec![text("You liked"), done()], Fallback::CutOff),
        ("length", vec![text("You liked"), finish("length"), done()], Fallback::CutOff),
        ("filter", vec![text("You liked"), finish("content_filter"), done()], Fallback::Refused),
        ("empty", good(&[]), Fallback::Ungrounded),
        ("another title", good(&["You liked Alien, and this is similar."]), Fallback::Ungrounded),
        ("another category", good(&["You liked Heat, which is a crime story."]), Fallback::Ungrounded),
        ("another claim", good(&["You liked Heat, and this is trending."]), Fallback::Ungrounded),
        ("markup", good(&["<script>alert</script> because of Heat."]), Fallback::Ungrounded),
    ];
    for (name, acts, why) in cases {
        let server = Server::always(acts).await;
        println!("{name}");
        rig(&config(&server.base_url(), &[])).falls_back("Ronin", why).await;
        assert_eq!(server.seen.requests(), 1, "{name}: asked once, not again");
    }
}

#[tokio::test]
async fn a_server_that_does_not_stream_or_closes_without_a_word_is_understood() {
    let whole = serde_json::json!({
        "choices": [{ "message": { "role": "assistant", "content": GOOD }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 9 },
    });
    let server = Server::always(vec![Act::MediaType("application/json; charset=utf-8"), raw(&whole.to_string())]).await;
    let (text_shown, summary) = rig(&config(&server.base_url(), &[])).ask(factors("Ronin")).await;
    assert_eq!((text_shown.as_str(), summary.tokens.output, summary.fallback), (GOOD, 9, None));

    let server = Server::always(vec![text(GOOD), finish("stop")]).await;
    let (text_shown, summary) = rig(&config(&server.base_url(), &[])).ask(factors("Ronin")).await;
    assert_eq!((text_shown.as_str(), summary.fallback), (GOOD, None));
    assert!(summary.tokens.output > 0, "estimated where the server does not say");
}

#[tokio::test]
async fn a_server_that_is_slow_or_absent_does_not_hold_the_caller() {
    let server = Server::always(vec![Act::Hang]).await;
    let fast = [("openai.first_chunk_timeout", "30ms")];
    rig(&config(&server.base_url(), &fast)).falls_back("Ronin", Fallback::Timeout).await;

    let server = Server::always(vec![text("You liked"), Act::Hang]).await;
    let fast = [("openai.total_timeout", "60ms")];
    rig(&config(&server.base_url(), &fast)).falls_back("Ronin", Fallback::Timeout).await;

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    rig(&config(&format!("http://{closed}/v1"), &[])).falls_back("Ronin", Fallback::Unreachable).await;

    // A server without TLS is no https server, and is never spoken to in the clear.
    let plain = Server::always(good(&[GOOD])).await;
    let tls = config(&plain.base_url().replace("http:", "https:"), &[]);
    rig(&tls).falls_back("Ronin", Fallback::Unreachable).await;
    assert_eq!(plain.seen.requests(), 0);

    let mut scope = Scope::detached().within(std::time::Duration::from_millis(40));
    let no_time = rig(&config(&server.base_url(), &[("openai.reserve", "50ms")]));
    let pieces: Vec<_> = no_time.reasoner.reason(factors("Ronin"), scope.clone()).collect().await;
    assert!(matches!(&pieces[1], Piece::Last(s) if s.fallback == Some(Fallback::NoTime)));
    assert_eq!(server.seen.requests(), 1, "nobody was asked");

    scope = Scope::detached().within(std::time::Duration::from_millis(100));
    let pieces: Vec<_> = no_time.reasoner.reason(factors("Ronin"), scope).collect().await;
    assert!(matches!(&pieces[1], Piece::Last(s) if s.fallback == Some(Fallback::Timeout)), "{pieces:?}");
}

#[tokio::test]
async fn what_breaks_off_after_a_sentence_keeps_it_but_is_not_cached() {
    let server = Server::always(vec![text("You liked Heat. It is sim"), Act::Abort]).await;
    let rig = rig(&config(&server.base_url(), &[]));
    for n in 1..=2 {
        let (text, summary) = rig.ask(factors("Ronin")).await;
        assert_eq!((text.as_str(), summary.fallback, server.seen.requests()), ("You liked Heat.", None, n));
    }
    let server = Server::always(good(&["You liked Heat. It has Al Pacino."])).await;
    let (text, summary) = self::rig(&config(&server.base_url(), &[])).ask(factors("Ronin")).await;
    assert_eq!((text.as_str(), summary.fallback), ("You liked Heat.", None));
}

#[tokio::test]
async fn a_failing_server_is_left_alone_and_tried_again() {
    let server = Server::start(|n| if n < 3 { vec![Act::Status(503)] } else { good(&[GOOD]) }).await;
    let rig_config = config(&server.base_url(), &[("openai.breaker.failures", "3"), ("openai.breaker.open", "200ms")]);
    let rig = rig(&rig_config);
    for _ in 0..3 {
        rig.falls_back("Ronin", Fallback::BackendError).await;
    }
    assert_eq!(rig.metric("llm_circuit_open"), 1.0);
    let mut left_alone = 0;
    let text = loop {
        let (text, summary) = rig.ask(factors("Ronin")).await;
        match summary.fallback {
            Some(Fallback::CircuitOpen) => left_alone += 1,
            None => break text,
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!((text.as_str(), server.seen.requests()), (GOOD, 4));
    assert!(left_alone > 0);
    assert_eq!(rig.metric("llm_circuit_open"), 0.0);
}

#[tokio::test]
async fn the_daily_budget_bounds_what_is_asked() {
    let server = Server::always(good(&[GOOD])).await;
    // A call may cost 120 output tokens = 0.12 dollars, and costs 20 = 0.02.
    let dear = [("prices.default.output", "1000.0"), ("budget.daily_dollars", "0.15")];
    let rig = rig(&config(&server.base_url(), &dear));
    assert_eq!(rig.ask(factors("Ronin")).await.1.fallback, None);
    assert_eq!(rig.ask(factors("Casino")).await.1.fallback, None);
    rig.falls_back("Serpico", Fallback::Budget).await;
    assert_eq!(server.seen.requests(), 2);
    assert!(rig.ask(factors("Ronin")).await.1.cached, "the cache needs no budget");
    assert!((rig.metric("llm_cost_dollars_total") - 0.04).abs() < 1e-9);
    assert!((rig.metric("llm_budget_spent_dollars") - 0.04).abs() < 1e-9);
}

#[tokio::test]
async fn calls_and_waiting_requests_are_bounded() {
    let go_on = Arc::new(Notify::new());
    let script_go = go_on.clone();
    let server = Server::start(move |_| {
        let mut acts = vec![Act::Await(script_go.clone())];
        acts.extend(good(&[GOOD]));
        acts
    })
    .await;
    let bounds = [("openai.concurrency.calls", "2"), ("openai.concurrency.waiting", "1")];
    let rig = Arc::new(rig(&config(&server.base_url(), &bounds)));
    let spawn = |title: &'static str| {
        let rig = rig.clone();
        tokio::spawn(async move { rig.ask(factors(title)).await })
    };
    let mut asked = vec![spawn("A one"), spawn("A two")];
    server.seen.until(|s| s.requests() == 2).await;
    asked.push(spawn("A three"));
    while rig.metric("llm_queue_depth") < 1.0 {
        tokio::task::yield_now().await;
    }
    rig.falls_back("A four", Fallback::Busy).await;
    for n in 0..3 {
        server.seen.until(|s| s.running.load(SeqCst) > 0).await;
        go_on.notify_one();
        server.seen.until(|s| s.requests() - s.running.load(SeqCst) > n).await;
    }
    for answer in asked {
        assert_eq!(answer.await.unwrap().1.fallback, None);
    }
    assert_eq!((server.seen.peak.load(SeqCst), server.seen.requests()), (2, 3));
    assert_eq!((rig.metric("llm_queue_depth"), rig.metric("llm_backend_calls_running")), (0.0, 0.0));
}

#[tokio::test]
async fn a_caller_that_leaves_stops_the_call_and_pays_for_what_it_took() {
    let server = Server::always(vec![text("You liked Heat. It is"), Act::Hang]).await;
    let dear = [("prices.default.output", "1000.0"), ("openai.concurrency.calls", "1")];
    let rig = rig(&config(&server.base_url(), &dear));
    for n in 1..=2 {
        let mut answer = rig.reasoner.reason(factors("Ronin"), Scope::detached());
        assert_eq!(answer.next().await, Some(Piece::Text("You liked Heat.".into())));
        drop(answer);
        server.seen.until(|s| s.left.load(SeqCst) == n).await;
    }
    assert_eq!(rig.metric("llm_backend_calls_total{outcome=\"cancelled\"}"), 2.0);
    assert_eq!(rig.metric("llm_backend_calls_running"), 0.0);
    assert!(rig.metric("llm_cost_dollars_total") > 0.0);
    assert_eq!(rig.metric("llm_circuit_open"), 0.0);
}

#[tokio::test]
async fn nothing_to_say_asks_nobody() {
    let server = Server::always(good(&[GOOD])).await;
    let rig = rig(&config(&server.base_url(), &[]));
    let (text, summary) = rig.ask(Factors::new("Ronin", &[], &[]).unwrap()).await;
    assert_eq!(
        (text.as_str(), summary.fallback),
        ("No single reason stands out for “Ronin”.", Some(Fallback::NoFactors))
    );
    assert_eq!(server.seen.requests(), 0);
}
