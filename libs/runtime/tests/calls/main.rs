//! Calls between two services, over TCP, over a Unix socket and over the value itself: the same spans, deadlines,
//! verdicts and codes each time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use attune_rpc::{Code, Deadline, Scope};
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::{Baggage, BaggageKey, Kind, Name, RecordHeaders, Span};
use std::time::Duration;
use world::{By, World};

const CALL: &str = "attune.bandit.v1.BanditService/Sample";
const STREAM: &str = "attune.llm.v1.LlmService/Reason";

fn scope(world: &World) -> Scope {
    let origin = &world.origin;
    Scope::new(origin.root("api.personalize", Kind::Server, None, origin.new_id()), Deadline::after(world::PATIENCE))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_makes_one_tree() {
    for by in By::ALL {
        let world = World::start(by, |config| config.sample_normal = 1.0).await;
        let scope = scope(&world);
        let answer = world.sample(&scope, 0, world::PATIENCE).await.unwrap();
        assert_eq!(answer.picks, [1, 2, 3]);
        scope.span.end();
        let spans = world.spans();
        let (root, client, server) = (&spans["api.personalize"], &spans[CALL], &spans["bandit.sample"]);
        assert_eq!(client["parentSpanId"], root["spanId"], "{by:?}");
        assert_eq!(server["parentSpanId"], client["spanId"], "{by:?}");
        assert_eq!(spans["bandit.draw"]["parentSpanId"], server["spanId"], "the handler got the scope");
        assert_eq!((client["kind"].as_i64(), server["kind"].as_i64()), (Some(3), Some(2)));
        for span in spans.values() {
            assert_eq!(span["traceId"], root["traceId"]);
            assert_eq!(span["traceState"], "ot=th:0");
        }
        for (span, key, value) in [
            (client, "rpc.method", CALL),
            (server, "rpc.method", CALL),
            (client, "rpc.system.name", "grpc"),
            (client, "rpc.response.status_code", "OK"),
            (server, "rpc.response.status_code", "OK"),
            (client, "sampling.subtree", "kept"),
        ] {
            assert_eq!(world::attribute(span, key), Some(value), "{key}");
        }
        let text = encode(std::slice::from_ref(&world.bandit), Format::Text);
        for line in [
            "bandit_requests_total{endpoint=\"sample\",status_code=\"200\"} 1\n",
            "bandit_requests_total{endpoint=\"sample\",status_code=\"500\"} 0\n",
            "bandit_errors_total{code=\"INTERNAL\",endpoint=\"sample\"} 0\n",
            "bandit_latency_seconds_count{endpoint=\"sample\"} 1\n",
            "bandit_concurrent_requests{endpoint=\"sample\"} 0\n",
        ] {
            assert!(text.contains(line), "{by:?} {line}\n{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_below_keeps_the_whole_trace() {
    for by in By::ALL {
        // Nothing is kept by chance: what is seen was promoted.
        let world = World::start(by, |config| config.sample_normal = 0.0).await;
        let before = scope(&world);
        world.sample(&before, 0, world::PATIENCE).await.unwrap();
        before.span.end();
        assert!(world.spans().is_empty(), "{by:?}");

        let failing = scope(&world);
        let error = world.sample(&failing, world::FAIL, world::PATIENCE).await.unwrap_err();
        assert_eq!(Code::of(&error), Code::Internal);
        failing.span.end();
        let spans = world.spans();
        assert_eq!(spans.len(), 4, "{by:?} {spans:?}");
        assert_eq!(world::attribute(&spans["api.personalize"], "sampling.reason"), Some("error"));
        assert_eq!(world::attribute(&spans[CALL], "error.type"), Some("INTERNAL"));
        assert_eq!(spans["bandit.sample"]["status"]["code"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_own_mistake_is_not_a_failure() {
    for by in By::ALL {
        let world = World::start(by, |config| config.sample_normal = 0.0).await;
        let scope = scope(&world);
        let error = world.sample(&scope, world::ERASED, world::PATIENCE).await.unwrap_err();
        assert_eq!(Code::of(&error), Code::Erased, "the exact code survives the wire");
        assert_eq!(error.message(), "it was erased");
        scope.span.end();
        assert!(world.spans().is_empty());
        let text = encode(std::slice::from_ref(&world.bandit), Format::Text);
        assert!(text.contains("bandit_requests_total{endpoint=\"sample\",status_code=\"404\"} 1\n"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_in_the_trailers_promotes_the_caller() {
    for by in By::ALL {
        let world = World::start(by, |config| config.sample_normal = 0.0).await;
        let scope = scope(&world);
        let pieces = world.reason(&scope, "late failure").await;
        assert_eq!(pieces.unwrap_err().code(), tonic::Code::DataLoss);
        scope.span.end();
        let spans = world.spans();
        assert_eq!(world::attribute(&spans["api.personalize"], "sampling.reason"), Some("error"), "{by:?}");
        assert_eq!(world::attribute(&spans["llm.reason"], "rpc.response.status_code"), Some("DATA_LOSS"));
        assert_eq!(world::attribute(&spans[STREAM], "rpc.response.status_code"), Some("DATA_LOSS"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn language_model_calls_are_always_kept() {
    for by in By::ALL {
        let world = World::start(by, |config| config.sample_normal = 0.0).await;
        let scope = scope(&world);
        assert_eq!(world.reason(&scope, "because").await.unwrap(), ["because", "of", "that"]);
        scope.span.end();
        let spans = world.spans();
        for name in ["api.personalize", STREAM, "llm.reason"] {
            assert!(spans.contains_key(name), "{by:?} {name}");
        }
        assert_eq!(world::attribute(&spans["api.personalize"], "sampling.reason"), Some("llm"));
        assert_eq!(world::attribute(&spans["llm.reason"], "sampling.reason"), Some("llm"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_travels_and_ends_both_sides() {
    for by in By::ALL {
        let world = World::start(by, |config| config.sample_normal = 1.0).await;
        let scope = scope(&world);
        let error = world.sample(&scope, world::HANG, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(Code::of(&error), Code::Late, "{by:?} {error:?}");
        let seen = world.seen_remaining().unwrap();
        assert!(seen <= Duration::from_millis(50), "the handler saw {seen:?}");
        scope.span.end();
        world.handlers_idle().await;
        let spans = world.spans_when(4).await;
        assert_eq!(world::attribute(&spans[CALL], "rpc.response.status_code"), Some("DEADLINE_EXCEEDED"));
        let server = &spans["bandit.sample"];
        let code = world::attribute(server, "rpc.response.status_code").unwrap();
        assert!(["DEADLINE_EXCEEDED", "CANCELLED"].contains(&code), "{code}");
    }
}

/// A service that calls on, twice, and then the event log: all of what travels is the same at the end.
#[tokio::test(flavor = "multi_thread")]
async fn trace_deadline_and_baggage_survive_every_hop() {
    for by in By::ALL {
        let world = World::start(by, |config| config.sample_normal = 1.0).await;
        // Half of what each call would have by itself.
        let most = world::PATIENCE / 2;
        let scope = scope(&world).within(most);
        let name = |text| Name::new(text).unwrap();
        let baggage = Baggage::default()
            .with(BaggageKey::Experiment, name("price:treatment"))
            .with(BaggageKey::Tier, name("origin"))
            .with(BaggageKey::Class, name("home"));
        scope.span.carry(baggage.clone());
        let first = tokio::spawn(world.call(&scope, world::HOLD, world::PATIENCE));
        world.handler_entered().await;
        let mut at = scope.clone();
        for _ in 0..3 {
            let next = world.seen_scope();
            assert_eq!(next.span.trace_id(), scope.span.trace_id(), "{by:?}");
            assert_eq!(next.span.baggage(), Some(&baggage));
            // The wire rounds up to a microsecond.
            assert!(next.deadline.remaining() <= most + Duration::from_micros(10));
            world.sample(&next, 0, world::PATIENCE).await.unwrap();
            at = next;
        }
        let mut record = RecordHeaders::new();
        at.span.inject(&mut record);
        let consumer = world.bandit.adopt("process decisions", Kind::Consumer, &record);
        assert_eq!((consumer.trace_id(), consumer.baggage()), (scope.span.trace_id(), Some(&baggage)));
        world.release();
        first.await.unwrap().unwrap();
        scope.span.end();
        let spans = world.spans();
        assert_eq!(world::attribute(&spans["bandit.sample"], "pz.exp"), Some("price:treatment"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_left_is_no_call() {
    let world = World::start(By::Value, |_| {}).await;
    let origin = &world.origin;
    let span = origin.root("api.personalize", Kind::Server, None, origin.new_id());
    let scope = Scope::new(span, Deadline::after(Duration::ZERO));
    assert_eq!(Code::of(&world.sample(&scope, 0, world::PATIENCE).await.unwrap_err()), Code::Late);
    assert_eq!(world.handled(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_is_a_cancellation() {
    for by in By::ALL {
        let world = World::start(by, |config| config.sample_normal = 1.0).await;
        let scope = scope(&world);
        let call = world.sample(&scope, world::HANG, world::PATIENCE);
        tokio::select! {
            _ = call => panic!("it hangs"),
            () = world.handler_entered() => {}
        }
        world.handlers_idle().await;
        scope.span.end();
        let spans = world.spans_when(4).await;
        assert_eq!(world::attribute(&spans[CALL], "sampling.subtree"), Some("requested"), "it never said");
        let cancelled = |name: &str| spans[name]["events"][0]["name"] == "cancelled";
        assert!(cancelled(CALL) && cancelled("bandit.sample"), "{by:?} {spans:?}");
        let text = encode(std::slice::from_ref(&world.bandit), Format::Text);
        assert!(text.contains("bandit_requests_total{endpoint=\"sample\",status_code=\"499\"} 1\n"), "{text}");
        assert!(text.contains("bandit_concurrent_requests{endpoint=\"sample\"} 0\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_costs_a_few_timeouts_and_then_nothing() {
    // It accepts connections (the kernel does) and never reads: a stopped process looks the same.
    let frozen = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", frozen.local_addr().unwrap());
    let world = World::start_remote(&address).await;
    for _ in 0..world::FAILURES_TO_OPEN {
        assert!(!world.channel.circuit_open());
        let error = world.sample(&scope(&world), 0, Duration::from_millis(30)).await.unwrap_err();
        assert_eq!(Code::of(&error), Code::Late);
    }
    assert!(world.channel.circuit_open());
    // Far more than a thousand of these would fit into one time-out of a second each.
    for _ in 0..1000 {
        let error = world.sample(&scope(&world), 0, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(Code::of(&error), Code::Unavailable);
    }
    let text = encode(std::slice::from_ref(&world.origin), Format::Text);
    assert!(text.contains("rpc_circuit_opened_total{peer=\"bandit\"} 1\n"), "{text}");
    assert!(text.contains("rpc_circuit_refused_total{peer=\"bandit\"} 1000\n"), "{text}");
    assert!(text.contains("rpc_circuit_open{peer=\"bandit\"} 1\n"), "{text}");
    drop(frozen);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_server_is_found_when_it_comes() {
    let world = World::start(By::Tcp, |_| {}).await;
    let address = world.address.clone();
    world.stop().await;
    let client = World::start_remote(&address).await;
    let error = client.sample(&scope(&client), 0, world::PATIENCE).await.unwrap_err();
    assert_eq!(Code::of(&error), Code::Unavailable, "{error:?}");
    let back = World::start_at(&address).await;
    let mut answer = client.sample(&scope(&client), 0, world::PATIENCE).await;
    for _ in 0..1000 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        answer = client.sample(&scope(&client), 0, world::PATIENCE).await;
    }
    answer.unwrap();
    assert!(back.handled() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outside_a_request_works_and_leaves_no_client_span() {
    for by in By::ALL {
        let world = World::start(by, |config| config.sample_normal = 1.0).await;
        let scope = Scope::new(Span::none(), Deadline::after(world::PATIENCE));
        world.sample(&scope, 0, world::PATIENCE).await.unwrap();
        let spans = world.spans();
        assert!(spans.contains_key("bandit.sample") && !spans.contains_key(CALL), "{by:?}");
        assert_eq!(spans["bandit.sample"]["parentSpanId"], "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_finishes_what_is_in_flight() {
    let world = World::start(By::Tcp, |_| {}).await;
    let scope = scope(&world);
    let call = tokio::spawn(world.call(&scope, world::HOLD, world::PATIENCE));
    world.handler_entered().await;
    world.shutdown.trigger();
    // The server has stopped accepting once a new connection is refused.
    let target = world.address.trim_start_matches("http://").to_owned();
    while tokio::net::TcpStream::connect(&target).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!call.is_finished(), "the call goes on");
    world.release();
    assert_eq!(call.await.unwrap().unwrap().picks, [1, 2, 3]);
    world.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_has_a_limit() {
    let world = World::start(By::Tcp, |_| {}).await;
    let scope = scope(&world);
    let call = tokio::spawn(world.call(&scope, world::HOLD, world::PATIENCE));
    world.handler_entered().await;
    world.shutdown.trigger();
    let error = world.ended().await.unwrap_err();
    assert!(error.to_string().contains("cut off"), "{error}");
    let error = call.await.unwrap().unwrap_err();
    assert_ne!(Code::of(&error), Code::Late, "the connection ended, not the caller's patience: {error:?}");
}
