//! Trace context, baggage and debug tokens as they come over the wire: from callers of ours, and from anybody.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_config::Secret;
use attune_domain::RequestId;
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::*;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

const NOW: i64 = 1_769_682_600_123;
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";

fn start(service: &'static str, clock: Clock) -> (Telemetry, Guard) {
    let config = TelemetryConfig {
        logs: LogTarget::Off,
        debug_key: Some(Secret::new("debug key")),
        sample_edge_only: 0.0,
        sample_normal: 0.0,
        ..TelemetryConfig::default()
    };
    Telemetry::start(&config, ServiceInfo { service, version: "1", instance: "i".into() }, clock).unwrap()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn rejected(telemetry: &Telemetry, reason: &str) -> u32 {
    let text = encode(std::slice::from_ref(telemetry), Format::Text);
    let line = format!("trace_context_rejected_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|one| one.strip_prefix(&line)).unwrap().parse().unwrap()
}

/// `tracestate` of a call made below a caller with these lines; None when there is none.
fn carried_on(telemetry: &Telemetry, lines: &[&str]) -> Option<String> {
    let mut all = vec![("traceparent", PARENT)];
    all.extend(lines.iter().map(|line| ("tracestate", *line)));
    let span = telemetry.adopt("ranking.score", Kind::Server, &headers(&all));
    let mut out = HeaderMap::new();
    span.client("call").inject(&mut out);
    out.get("tracestate").map(|value| value.to_str().unwrap().to_owned())
}

/// The W3C test suite's cases of `tracestate`, and what travels on.
#[test]
fn members_of_others_travel_on_behind_ours() {
    let (telemetry, _guard) = start("ranking", Arc::new(|| NOW));
    let long = format!("{}=1", "z".repeat(256));
    let tenant = format!("{}@{}=1", "t".repeat(241), "v".repeat(14));
    for (lines, others) in [
        (&["foo=1"][..], Some("foo=1")),
        (&["foo=1,bar=2"], Some("foo=1,bar=2")),
        (&["foo=1", "bar=2"], Some("foo=1,bar=2")),
        (&["foo=1", "", "bar=2"], Some("foo=1,bar=2")),
        (&["foo=1 \t , \t bar=2, \t baz=3"], Some("foo=1,bar=2,baz=3")),
        (&["foo=1,,bar=2"], Some("foo=1,bar=2")),
        (&["foo=1,foo=2"], Some("foo=1,foo=2")),
        (&["t_-*/0@s_-*/0=v"], Some("t_-*/0@s_-*/0=v")),
        (&["foo=!\"#$%&'()*+-./0129:;<>?@AZ[\\]^_`az{|}~"], Some("foo=!\"#$%&'()*+-./0129:;<>?@AZ[\\]^_`az{|}~")),
        (&[&long], Some(&*long)),
        (&[&tenant], Some(&*tenant)),
        (&["ot=th:fd70a4,foo=1"], Some("foo=1")),
        (&["foo=1,ot=th:fd70a4"], Some("foo=1")),
        (&[""], None),
        (&["foo"], None),
        (&["foo="], None),
        (&["foo =1"], None),
        (&["FOO=1"], None),
        (&["foo.bar=1"], None),
        (&["foo@=1,bar=2"], None),
        (&["@foo=1,bar=2"], None),
        (&["foo@@bar=1,bar=2"], None),
        (&["foo@bar@baz=1,bar=2"], None),
        (&["foo=bar=baz"], None),
        (&["foo=,bar=3"], None),
        (&[&format!("z{long}")], None),
        (&[&format!("t{tenant}")], None),
        (&[&format!("{}@{}=1", "t".repeat(241), "v".repeat(15))], None),
    ] {
        let got = carried_on(&telemetry, lines).unwrap();
        // The parent said sampled: without a threshold of its own that is certain.
        let (ours, rest) = got.split_once(',').map_or((&*got, None), |(ours, rest)| (ours, Some(rest)));
        assert!(ours.starts_with("ot=th:"), "{got}");
        assert_eq!(rest, others, "{lines:?}");
    }
    let list = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    assert_eq!(carried_on(&telemetry, &[&list(32)]).unwrap(), format!("ot=th:0,{}", list(32)));
    let before = rejected(&telemetry, "tracestate");
    assert_eq!(carried_on(&telemetry, &[&list(60)]).unwrap(), "ot=th:0");
    assert_eq!(rejected(&telemetry, "tracestate"), before + 1);
    let value = format!("{},b=2", (0..9).map(|n| format!("k{n}={}", "v".repeat(100))).collect::<Vec<_>>().join(","));
    let kept = carried_on(&telemetry, &[&value]).unwrap();
    assert!(kept.len() <= 512 + "ot=th:0,".len() && kept.ends_with(",b=2"), "as many as fit: {kept}");
}

#[test]
fn our_member_is_read_wherever_it_stands() {
    for (line, want) in [
        ("ot=th:fd70a4", "ot=th:fd70a4"),
        ("foo=1,ot=th:8;rv:6e6d1a75832a2f", "ot=th:8;rv:6e6d1a75832a2f,foo=1"),
        ("ot=rv:6e6d1a75832a2f;th:8;new:1", "ot=th:8;rv:6e6d1a75832a2f"),
        ("ot=th:c,ot=th:0", "ot=th:c"),
        ("ot=th:XYZ", "ot=th:0"),
        ("ot=rv:12", "ot=th:0"),
        ("ot=p:8;r:62", "ot=th:0"),
    ] {
        // Each in a process of its own: what is said of one trace adds up.
        let (telemetry, _guard) = start("ranking", Arc::new(|| NOW));
        assert_eq!(carried_on(&telemetry, &[line]).unwrap(), want, "{line}");
    }
}

#[test]
fn the_random_flag_is_the_callers_or_ours() {
    let (telemetry, _guard) = start("ranking", Arc::new(|| NOW));
    for (flags, random) in [("00", 0), ("01", 0), ("02", 2), ("03", 2), ("ff", 2)] {
        let parent = format!("{}{flags}", &PARENT[..53]);
        let span = telemetry.adopt("ranking.score", Kind::Server, &headers(&[("traceparent", &parent)]));
        assert_eq!(span.traceparent().flags & TraceParent::RANDOM, random, "{flags}");
    }
    let own = telemetry.adopt("ranking.score", Kind::Server, &HeaderMap::new());
    assert_eq!(own.traceparent().flags, TraceParent::RANDOM);
}

#[test]
fn baggage_is_ours_alone() {
    let (telemetry, _guard) = start("ranking", Arc::new(|| NOW));
    let read = |lines: &[(&str, &str)]| {
        let span = telemetry.adopt("ranking.score", Kind::Server, &headers(lines));
        let mut out = HeaderMap::new();
        span.client("call").inject(&mut out);
        out.get("baggage").map(|value| value.to_str().unwrap().to_owned())
    };
    let all = "pz.exp=price:treatment,pz.tier=origin,pz.class=home";
    assert_eq!(read(&[("baggage", all)]).as_deref(), Some(all));
    assert_eq!(read(&[("baggage", "user_id=42, pz.tier = edge;secret=1 ,x=y")]).as_deref(), Some("pz.tier=edge"));
    assert_eq!(read(&[("baggage", "a=b"), ("baggage", "pz.class=home")]).as_deref(), Some("pz.class=home"));
    assert_eq!(read(&[("baggage", "a=b,c=d")]), None);
    assert_eq!(rejected(&telemetry, "baggage"), 0);
    for bad in ["pz.tier=a b", "pz.exp=", "pz.exp=caf%C3%A9", &format!("pz.exp={}", "x".repeat(65))] {
        assert_eq!(read(&[("baggage", bad)]), None, "{bad}");
    }
    assert_eq!(read(&[("baggage", &format!("{all},a={}", "x".repeat(100_000)))]), None);
    assert_eq!(read(&[("baggage", &format!("{all}{}", ",a=b".repeat(64)))]), None);
    assert_eq!(rejected(&telemetry, "baggage"), 6);
    let name = |text: &str| Name::new(text).unwrap();
    let long = BaggageKey::ALL.into_iter().fold(Baggage::default(), |b, key| b.with(key, name(&"n".repeat(64))));
    let root = telemetry.root("r", Kind::Server, None, telemetry.new_id());
    root.carry(long);
    let mut out = HeaderMap::new();
    root.inject(&mut out);
    assert!(out["baggage"].len() <= 256 && out["baggage"].to_str().unwrap().matches('=').count() == 3);
}

#[test]
fn the_door_believes_nobody() {
    let wall = Arc::new(AtomicI64::new(NOW));
    let clock = wall.clone();
    let (telemetry, _guard) = start("edge", Arc::new(move || clock.load(Relaxed)));
    let own = RequestId([7; 16]);
    let admit = |lines: &[(&str, &str)]| telemetry.admit("edge.personalize", Kind::Server, &headers(lines), own);
    let span = admit(&[("traceparent", PARENT), ("tracestate", "ot=th:0,foo=1"), ("baggage", "pz.tier=llm")]);
    let mut out = HeaderMap::new();
    span.client("call").inject(&mut out);
    assert_eq!((span.trace_id(), out.get("tracestate"), out.get("baggage")), (own, None, None));
    assert!(!span.traceparent().sampled());
    for (reason, count) in [("sampled", 1), ("baggage", 1), ("traceparent", 0), ("tracestate", 0), ("debug", 0)] {
        assert_eq!(rejected(&telemetry, reason), count, "{reason}");
    }
    admit(&[("traceparent", "00-nonsense")]);
    admit(&[("traceparent", PARENT), ("traceparent", PARENT)]);
    admit(&[("traceparent", PARENT), ("tracestate", &"k=v,".repeat(60))]);
    admit(&[("baggage", &"a=b,".repeat(25_000))]);
    for (reason, count) in [("traceparent", 2), ("tracestate", 1), ("baggage", 2), ("sampled", 2)] {
        assert_eq!(rejected(&telemetry, reason), count, "{reason}");
    }

    let good = debug_token(&Secret::new("debug key"), NOW + 60_000);
    // As `openssl dgst -sha256 -hmac` signs it.
    assert_eq!(good, "1769682660123.f7306e8b2c4e68c9efe1a274cf990cd05d31544a7564a7a819db3b34fb2607f0");
    assert!(admit(&[("x-pz-debug", &good)]).traceparent().sampled());
    assert!(!admit(&[("x-pz-debug", &good)]).traceparent().sampled(), "once a second");
    assert_eq!(rejected(&telemetry, "debug_rate"), 1);
    wall.fetch_add(1000, Relaxed);
    assert!(admit(&[("x-pz-debug", &good)]).traceparent().sampled());
    wall.fetch_add(1000, Relaxed);
    let forged = [
        "1".to_owned(),
        String::new(),
        good.replace('.', ""),
        debug_token(&Secret::new("another key"), NOW + 60_000),
        debug_token(&Secret::new("debug key"), NOW - 1),
        debug_token(&Secret::new("debug key"), NOW + 30 * 86_400_000),
        format!("{}{}", NOW + 90_000, &good[good.find('.').unwrap()..]),
        format!("{good}00"),
    ];
    for token in &forged {
        assert!(!admit(&[("x-pz-debug", token)]).traceparent().sampled(), "{token}");
    }
    assert_eq!(rejected(&telemetry, "debug"), forged.len() as u32);
}

#[test]
fn records_of_the_event_log_carry_the_same() {
    let (telemetry, _guard) = start("origin", Arc::new(|| NOW));
    let lines = [("traceparent", PARENT), ("tracestate", "ot=th:8,foo=1"), ("baggage", "pz.exp=price:treatment")];
    let span = telemetry.adopt("api.feedback", Kind::Server, &headers(&lines));
    let send = span.begin("send user-events", Kind::Producer);
    let mut record = RecordHeaders::from([("other".into(), "x".into()), ("traceparent".into(), "old".into())]);
    send.inject(&mut record);
    assert_eq!(record.len(), 4);

    let process = telemetry.adopt("process user-events", Kind::Consumer, &record);
    assert_eq!(process.trace_id(), span.trace_id());
    assert_eq!(TraceParent::extract(&record), Some(send.traceparent()));
    assert_eq!(process.baggage(), span.baggage());
    let mut out = HeaderMap::new();
    process.inject(&mut out);
    assert_eq!(out["tracestate"], "ot=th:8,foo=1");
}

fn sparse(headers: &[(&str, Vec<u8>)]) -> RecordHeaders {
    headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60_000, ..ProptestConfig::default() })]

    /// Whatever bytes come: no panic, and what is taken is written again as it was understood.
    #[test]
    fn any_bytes_are_read_safely(
        parent in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..70),
            "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,4})?".prop_map(String::into_bytes),
            "00-[0-9a-fA-F]{31,33}-[0-9a-f]{15,17}-0[0-9a-g]".prop_map(String::into_bytes),
        ],
        state in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "( ?[a-z@_0-9]{0,6}=[ -~]{0,5},?){0,40}".prop_map(String::into_bytes),
            "(ot=((th|rv|x):[0-9a-g]{0,15};?){0,3},?){1,2}".prop_map(String::into_bytes),
        ],
        baggage in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "(pz\\.(exp|tier|class)=[ -~]{0,8},?){0,4}".prop_map(String::into_bytes),
        ],
    ) {
        thread_local! {
            static TELEMETRY: (Telemetry, Guard) = start("ranking", Arc::new(|| NOW));
        }
        let record = sparse(&[("traceparent", parent), ("tracestate", state), ("baggage", baggage)]);
        TELEMETRY.with(|(telemetry, _)| {
            let span = telemetry.adopt("x", Kind::Server, &record);
            let outside = telemetry.admit("x", Kind::Server, &record, RequestId([9; 16]));
            prop_assert_eq!(outside.trace_id(), RequestId([9; 16]));
            let mut out = RecordHeaders::new();
            span.inject(&mut out);
            prop_assert_eq!(TraceParent::extract(&out), Some(span.traceparent()));
            if let Some(parent) = TraceParent::extract(&record) {
                prop_assert_eq!(TraceParent::parse(&parent.to_text()).unwrap().span_id, parent.span_id);
                prop_assert_eq!(span.trace_id(), parent.trace_id);
            }
            let again = telemetry.adopt("y", Kind::Server, &out);
            prop_assert_eq!(again.baggage(), span.baggage());
            let mut third = HeaderMap::new();
            again.inject(&mut third);
            let state = |found: Option<&[u8]>| found.map(<[u8]>::to_vec);
            let second = out.iter().find(|(name, _)| name == "tracestate").map(|(_, value)| &value[..]);
            prop_assert_eq!(state(third.get("tracestate").map(HeaderValue::as_bytes)), state(second));
            Ok(())
        })?;
    }
}

/// Two million headers a few bytes away from good ones.
#[test]
fn nearly_good_headers_are_read_strictly() {
    let mut seed = 20_261_125u64;
    let mut next = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let hex = |text: &[u8]| text.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    for _ in 0..2_000_000 {
        let mut text = *b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
        for _ in 0..next(3) {
            text[next(55)] = b"0123456789abcdefABF-g\xff "[next(23)];
        }
        let Ok(utf8) = std::str::from_utf8(&text) else { continue };
        let good = [2, 35, 52].iter().all(|at| text[*at] == b'-')
            && [0..2, 3..35, 36..52, 53..55].iter().all(|part| hex(&text[part.clone()]))
            && &text[..2] != b"ff";
        assert_eq!(TraceParent::parse(utf8).is_some(), good, "{utf8}");
    }
}
