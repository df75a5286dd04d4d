//! `attune trace` on real platforms: running and stopped, in one process and in seven.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use platform::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn trace(arguments: &[&str]) -> Said {
    let output = attune().arg("trace").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Asks until parts that wait for a verdict are written.
fn trace_soon(arguments: &[&str]) -> Said {
    for _ in 0..100 {
        let said = trace(arguments);
        if said.code != Some(75) {
            return said;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("{arguments:?} is never written");
}

/// A page that asks for explanations, which the llm service writes, so that its trace is kept.
async fn explained(platform: &Platform, user: &str) -> (String, usize) {
    let body = json!({"user_id": user, "limit": 7, "explain": true});
    // On a busy machine a stage may be late, but not again and again.
    for _ in 0..20 {
        let page = platform.edge.post("/v1/personalize", &body).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let document = page.json();
        if document["level"] == 0 && document["tier"] == "llm" {
            return (document["request_id"].as_str().unwrap().to_owned(), page.items().len());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("no page with explanations for {user}");
}

/// The spans of an OTLP document, each with its service. Every one is of this trace, and has its parent here.
fn spans(json: &str, id: &str) -> Vec<(String, Span)> {
    assert_eq!(json.trim_end().lines().count(), 1, "one document");
    let value: Value = serde_json::from_str(json).unwrap();
    let export: ExportTraceServiceRequest = serde_json::from_str(json).unwrap();
    let mut spans = Vec::new();
    for (part, raw) in export.resource_spans.into_iter().zip(value["resourceSpans"].as_array().unwrap()) {
        let attributes = raw["resource"]["attributes"].as_array().unwrap();
        let service = attributes.iter().find(|a| a["key"] == "service.name").unwrap();
        let service = service["value"]["stringValue"].as_str().unwrap().to_owned();
        let own = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(own.map(|span| (service.clone(), span)));
    }
    let ids: HashSet<_> = spans.iter().map(|(_, span)| span.span_id.clone()).collect();
    assert_eq!(ids.len(), spans.len());
    for (service, span) in &spans {
        assert_eq!(u128::from_be_bytes(span.trace_id[..].try_into().unwrap()), u128::from_str_radix(id, 16).unwrap());
        let has_parent = span.parent_span_id.is_empty() || ids.contains(&span.parent_span_id);
        assert!(has_parent, "an orphan: {service} {}", span.name);
    }
    assert_eq!(spans.iter().filter(|(_, span)| span.parent_span_id.is_empty()).count(), 1);
    spans
}

/// Everything that is in the trace is in the text, and so is its decision.
fn is_told(text: &str, spans: &[(String, Span)], items: usize) {
    let services: BTreeSet<_> = spans.iter().map(|(service, _)| service).collect();
    let head = format!("{} spans of {} services, ", spans.len(), services.len());
    assert!(text.starts_with(&head), "{head}\n{text}");
    let rows: Vec<_> = text.lines().skip(2).take_while(|line| !line.starts_with("! ") && !line.is_empty()).collect();
    assert_eq!(rows.len(), spans.len(), "{text}");
    for (service, span) in spans {
        let shown =
            |row: &&str| row.starts_with(service.as_str()) && row.contains(span.name.as_str()) && row.contains('█');
        assert!(rows.iter().any(shown), "{service} {}\n{text}", span.name);
    }
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}\n{text}"));
    assert!(line("level ").trim_start_matches("level").trim().starts_with(|c: char| c.is_ascii_digit()), "{text}");
    assert!(line("kept as ").contains("llm, stands for 1"), "{text}");
    assert!(line("versions ").contains("attune 0."), "{text}");
    assert!(line("decision ").contains("miss, variant "), "{text}");
    assert!(text.contains("posteriors ") && text.contains("index "), "{text}");
    assert!(line("slots ").contains(&format!("{items} of ")), "{text}");
    let propensities: Vec<f64> = text
        .lines()
        .filter(|line| line.contains(" ± "))
        .map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap())
        .collect();
    assert_eq!(propensities.len(), items, "{text}");
    assert!(propensities.iter().all(|p| (0.0..=1.0).contains(p)) && propensities.iter().any(|p| *p > 0.0), "{text}");
}

async fn a_kept_trace(separate: bool) {
    let dir = state();
    let folder = dir.path().join("state");
    let settings = dir.path().join("settings.toml");
    std::fs::write(&settings, "[edge.experiment]\nholdout = 0.0\n").unwrap();
    let mut arguments = vec!["--config", settings.to_str().unwrap()];
    arguments.extend(separate.then_some("--separate"));
    let platform = Platform::start(&dir, &arguments);
    let address = platform.edge.address.clone();
    let (id, items) = explained(&platform, "u1").await;
    let (other, _) = explained(&platform, "u2").await;

    let running = trace_soon(&[&id, "--edge", &address]);
    assert_eq!(running.code, Some(0), "{}", running.err);
    assert!(running.out.contains("edge.personalize") && running.out.contains("decision "), "{}", running.out);
    let missing = trace(&[&"0".repeat(32), "--edge", &address]);
    assert_eq!((missing.code, missing.err.lines().count()), (Some(65), 1), "{}", missing.err);
    // The decision log has an owner, so its part is left out; the trace can be read all the same.
    let beside = trace(&[&id, "--state", folder.to_str().unwrap()]);
    assert_eq!(beside.code, Some(0), "{}", beside.err);
    assert!(beside.out.contains("edge.personalize") && !beside.out.contains("decision "), "{}", beside.out);
    assert!(beside.err.contains("--edge"), "{}", beside.err);

    // All parts are written when it ends.
    assert!(platform.interrupt().success());
    let stopped = |more: &[&str]| trace(&[&["--state", folder.to_str().unwrap()][..], more].concat());
    let document = stopped(&[&id, "--json"]);
    assert_eq!(document.code, Some(0), "{}", document.err);
    let spans = spans(&document.out, &id);
    let services: BTreeSet<_> = spans.iter().map(|(service, _)| service.as_str()).collect();
    let expected = ["edge", "origin", "retrieval", "ranking", "bandit", "llm"];
    assert!(expected.iter().all(|service| services.contains(service)), "{services:?}");
    assert!(spans.iter().any(|(_, span)| span.name == "llm.reason"));
    let text = stopped(&[&id]);
    println!("{}", text.out);
    assert_eq!(text.code, Some(0), "{}", text.err);
    is_told(&text.out, &spans, items);

    let list = stopped(&["--last", "50", "--json"]);
    assert_eq!(list.code, Some(0), "{}", list.err);
    let lines: Vec<Value> = list.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<_> = lines.iter().map(|line| line["trace_id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
    for wanted in [&id, &other] {
        let line = lines.iter().find(|line| line["trace_id"] == **wanted).unwrap_or_else(|| panic!("no {wanted}"));
        assert_eq!((line["root"].as_str(), line["class"].as_str()), (Some("edge.personalize"), Some("llm")));
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
    }
    let line = lines.iter().find(|line| line["trace_id"] == *id).unwrap();
    assert_eq!(
        (line["spans"].as_u64(), line["services"].as_u64()),
        (Some(spans.len() as u64), Some(services.len() as u64))
    );
    let newest = stopped(&["--last", "1"]);
    println!("{}", newest.out);
    assert!(
        newest.out.lines().count() == 2 && newest.out.lines().nth(1).unwrap().starts_with(ids[0]),
        "{}",
        newest.out
    );
}

#[tokio::test]
async fn one_process() {
    a_kept_trace(false).await;
}

#[tokio::test]
async fn seven_processes() {
    a_kept_trace(true).await;
}

#[tokio::test]
async fn a_trace_that_was_not_kept_is_explained() {
    let dir = state();
    let folder = dir.path().join("state");
    let settings = dir.path().join("settings.toml");
    // Nothing normal is kept, and no page is slow.
    let text = "[edge.process.telemetry]\nsample_normal = 0.0\nsample_edge_only = 0.0\nslow_after = \"60s\"\n";
    std::fs::write(&settings, text).unwrap();
    let platform = Platform::start(&dir, &["--config", settings.to_str().unwrap()]);
    // A fallback, of a machine that is busy with something else, would be kept.
    let mut page = Value::Null;
    for user in 0..USERS {
        page = platform.edge.page(&format!("u{user}")).await.json();
        if page["level"] == 0 {
            break;
        }
    }
    let page = page["request_id"].as_str().unwrap().to_owned();
    let young = trace(&[&page, "--edge", &platform.edge.address]);
    assert_eq!(young.code, Some(75), "{}", young.err);
    let old = trace_soon(&[&page, "--edge", &platform.edge.address]);
    assert_eq!(old.code, Some(65), "{}", old.err);
    // What the platform's own settings say.
    assert!(old.err.contains("was not kept: of class ") && old.err.contains(" none is"), "{}", old.err);
    assert!(platform.interrupt().success());

    let state = folder.to_str().unwrap();
    let stopped = trace(&[&page, "--state", state]);
    assert_eq!((stopped.code, stopped.err.lines().count()), (Some(65), 1), "{}", stopped.err);
    assert!(stopped.out.contains("decision ") && stopped.out.contains("slots "), "{}", stopped.out);
    let json = trace(&[&page, "--state", state, "--json"]);
    assert_eq!((json.code, json.out.as_str()), (Some(65), ""), "{}", json.err);
    let unknown = trace(&[&"ab".repeat(16), "--state", state]);
    assert_eq!((unknown.code, unknown.out.as_str()), (Some(65), ""));
    assert!(unknown.err.contains("the decision log has no page"), "{}", unknown.err);
}

#[test]
fn a_mistake_is_one_line() {
    let none = tempfile::tempdir().unwrap();
    let none = none.path().to_str().unwrap();
    let id = "0".repeat(32);
    let id = id.as_str();
    for (arguments, code, wanted) in [
        (vec!["not-an-id"], 64, "32 lower-case hexadecimal digits"),
        (vec!["01A1FC5E2005365D42B3C03D6D3E7A3E"], 64, "32 lower-case hexadecimal digits"),
        (vec![], 64, "REQUEST_OR_TRACE_ID"),
        (vec!["--last", "0"], 64, "--last"),
        (vec![id, "--last", "3"], 64, "--last"),
        (vec![id, "--state", none], 65, "is not a state folder"),
        (vec![id, "--edge", "http://127.0.0.1:1"], 75, "reach the platform"),
        (vec![id, "--edge", "nonsense url"], 64, "is not a URL"),
    ] {
        let said = trace(&arguments);
        assert_eq!(
            (said.code, said.out.as_str(), said.err.lines().count()),
            (Some(code), "", 1),
            "{arguments:?}: {}",
            said.err
        );
        assert!(said.err.contains(wanted), "{arguments:?}: {}", said.err);
    }
    std::fs::write(format!("{none}/FORMAT"), "1\n").unwrap();
    let empty = trace(&["--last", "3", "--state", none]);
    assert_eq!((empty.code, empty.err.as_str()), (Some(65), "attune: no trace was kept\n"));
}
