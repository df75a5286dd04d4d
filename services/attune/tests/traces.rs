//! One page asked of the origin and one answered by the edge, as traces over seven processes: every span of the
//! observability contract with its attributes, every parent where it should be.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;

use platform::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Span, parent, attributes, and whether an answer from the edge has it.
const CONTRACT: [(&str, &str, &[&str]); 10] = [
    ("edge.personalize", "", &["cache_hit", "pop_location"]),
    ("edge.cache_lookup", "edge.personalize", &["key", "hit"]),
    ("edge.score", "edge.personalize", &["model_version", "latency"]),
    ("api.personalize", "edge.personalize", &["tier", "user_segment"]),
    ("context.build", "api.personalize", &["feature_count", "latency"]),
    ("retrieval.candidates", "api.personalize", &["sources", "candidate_count"]),
    ("retrieval.ann_search", "retrieval.candidates", &["index", "top_k", "latency"]),
    ("ranking.score", "api.personalize", &["model", "batch_size"]),
    ("bandit.sample", "api.personalize", &["algorithm", "exploration"]),
    ("llm.reason", "api.personalize", &["model", "tokens", "cached"]),
];

#[derive(Clone, Debug)]
struct Span {
    name: String,
    service: String,
    id: String,
    parent: String,
    begun: u64,
    ended: u64,
    attributes: BTreeMap<String, String>,
}

/// Every span in the folder, by trace.
fn read(traces: &Path) -> HashMap<String, Vec<Span>> {
    let mut found: HashMap<String, Vec<Span>> = HashMap::new();
    for file in fs::read_dir(traces).unwrap() {
        for line in fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            let export: Value = serde_json::from_str(line).unwrap();
            for resource in export["resourceSpans"].as_array().unwrap() {
                let service = attributes(&resource["resource"])["service.name"].clone();
                let scopes = resource["scopeSpans"].as_array().unwrap();
                for span in scopes.iter().flat_map(|scope| scope["spans"].as_array().unwrap()) {
                    let text = |field: &str| span[field].as_str().unwrap_or_default().to_owned();
                    let time = |field: &str| span[field].as_str().unwrap().parse().unwrap();
                    found.entry(text("traceId")).or_default().push(Span {
                        name: text("name"),
                        service: service.clone(),
                        id: text("spanId"),
                        parent: text("parentSpanId"),
                        begun: time("startTimeUnixNano"),
                        ended: time("endTimeUnixNano"),
                        attributes: attributes(span),
                    });
                }
            }
        }
    }
    found
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let value = |value: &Value| match value.as_object().and_then(|o| o.values().next()) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let list = of["attributes"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter().map(|a| (a["key"].as_str().unwrap().to_owned(), value(&a["value"]))).collect()
}

/// Checks ids and parents, and gives the spans by id.
fn tree(spans: &[Span]) -> HashMap<&str, &Span> {
    let by_id: HashMap<_, _> = spans.iter().map(|s| (s.id.as_str(), s)).collect();
    assert_eq!(by_id.len(), spans.len(), "two spans have one id");
    let roots: Vec<_> = spans.iter().filter(|s| s.parent.is_empty()).collect();
    assert_eq!(roots.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["edge.personalize"]);
    for span in spans.iter().filter(|s| !s.parent.is_empty()) {
        let parent = by_id.get(span.parent.as_str()).unwrap_or_else(|| panic!("an orphan: {span:?}"));
        assert!(span.ended >= span.begun);
        // Processes of one machine share its clock, up to what reading it twice costs.
        assert!(span.begun + 1_000_000 >= parent.begun, "{} begins before its parent", span.name);
    }
    by_id
}

/// The nearest ancestor that the contract names.
fn named_parent<'s>(by_id: &HashMap<&str, &'s Span>, span: &Span) -> &'s str {
    let mut at = span.parent.as_str();
    while let Some(parent) = by_id.get(at) {
        if CONTRACT.iter().any(|(name, ..)| *name == parent.name) {
            return &parent.name;
        }
        at = &parent.parent;
    }
    ""
}

fn waterfall(spans: &[Span], by_id: &HashMap<&str, &Span>) -> String {
    let begin = spans.iter().map(|s| s.begun).min().unwrap();
    let mut children: HashMap<&str, Vec<&Span>> = HashMap::new();
    for span in spans {
        children.entry(&span.parent).or_default().push(span);
    }
    let mut text = format!(
        "{} spans of {} services\n",
        by_id.len(),
        spans.iter().map(|s| &s.service).collect::<HashSet<_>>().len()
    );
    let mut open = vec![("", 0)];
    while let Some((id, depth)) = open.pop() {
        if let Some(span) = by_id.get(id) {
            let attributes: Vec<_> = span.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let (from, took) =
                ((span.begun.saturating_sub(begin)) as f64 / 1e6, (span.ended - span.begun) as f64 / 1e6);
            let name = format!("{}{}", "  ".repeat(depth), span.name);
            writeln!(text, "{from:8.2} {took:8.2} ms  {:<10} {name:<34} {}", span.service, attributes.join(" "))
                .unwrap();
        }
        let mut below = children.get(id).cloned().unwrap_or_default();
        below.sort_by_key(|s| std::cmp::Reverse(s.begun));
        open.extend(below.into_iter().map(|s| (s.id.as_str(), depth + usize::from(!id.is_empty()))));
    }
    text
}

#[tokio::test]
async fn a_page_is_one_tree_over_all_processes() {
    let dir = state();
    let mut settings = String::from("[edge.experiment]\nholdout = 0.0\n");
    for service in ["edge", "origin", "retrieval", "ranking", "bandit", "llm", "embedder"] {
        let all = "sample_normal = 1.0\nsample_edge_only = 1.0\n";
        writeln!(settings, "[{service}.process.telemetry]\n{all}").unwrap();
    }
    let file = dir.path().join("settings.toml");
    fs::write(&file, settings).unwrap();
    let platform = Platform::start(&dir, &["--separate", "--config", file.to_str().unwrap()]);
    let mut pages = Vec::new();
    for user in 0..20 {
        let ask = async |explain: bool| {
            let body = json!({"user_id": format!("u{user}"), "limit": 5, "explain": explain});
            let page = platform.edge.post("/v1/personalize", &body).await.json();
            let request = page["request_id"].as_str().unwrap().to_owned();
            (request, page["cache"] == "hit", page["level"] == 0)
        };
        let (miss, hit) = (ask(true).await, ask(false).await);
        assert!(!miss.1 && hit.1, "a second page did not hit");
        // A machine busy with something else makes a stage late, which has a trace of its own.
        if miss.2 && hit.2 {
            pages = vec![("miss", miss.0), ("hit", hit.0)];
            break;
        }
    }
    assert!(!pages.is_empty(), "no page at level 0");
    let state = platform.state.clone();
    // Every process writes what it holds before it ends.
    assert!(platform.interrupt().success());

    let traces = read(&state.join("traces"));
    for (kind, request) in pages {
        let spans = traces.get(&request).unwrap_or_else(|| panic!("no trace of the {kind}"));
        let by_id = tree(spans);
        println!("\n{kind} {request}: {}", waterfall(spans, &by_id));
        for (name, parent, wanted) in CONTRACT {
            let at_edge = name.starts_with("edge.");
            let expected = match kind {
                "miss" => name != "edge.score",
                _ => at_edge,
            };
            let found: Vec<_> = spans.iter().filter(|s| s.name == name).collect();
            assert_eq!(!found.is_empty(), expected, "{name} in the {kind}");
            for span in found {
                assert_eq!(named_parent(&by_id, span), parent, "parent of {name}");
                let absent: Vec<_> = wanted.iter().filter(|a| !span.attributes.contains_key(**a)).collect();
                assert!(absent.is_empty(), "{name} of the {kind} has no {absent:?}: {:?}", span.attributes);
            }
        }
        let services: HashSet<_> = spans.iter().map(|s| s.service.as_str()).collect();
        assert_eq!(services.len(), if kind == "miss" { 6 } else { 1 }, "{services:?}");
        let hit = if kind == "hit" { "true" } else { "false" };
        let root = spans.iter().find(|s| s.parent.is_empty()).unwrap();
        assert_eq!(root.attributes["cache_hit"], hit);
    }
}

/// Set to record nothing: pages carry what visitors' own tools go by, and decisions are on record; nothing else is.
#[tokio::test]
async fn without_telemetry_pages_are_as_they_were() {
    let dir = state();
    let file = dir.path().join("settings.toml");
    let settings = ["record = \"none\"", "sample_normal = 1.0", "sample_edge_only = 1.0", "request_logs = \"all\""];
    fs::write(&file, format!("[edge.process.telemetry]\n{}\n", settings.join("\n"))).unwrap();
    let platform = Platform::start(&dir, &["--config", file.to_str().unwrap()]);
    // The folder is a copy of one that another process wrote into.
    let before = written(&platform.state);
    for cache in ["miss", "hit"] {
        let answer = platform.edge.post("/v1/personalize", &json!({"user_id": "u1", "limit": 5})).await;
        let page = answer.json();
        assert_eq!((answer.status, page["cache"].as_str()), (200, Some(cache)));
        let request = page["request_id"].as_str().unwrap();
        assert_eq!(answer.header("traceresponse"), format!("00-{request}--00"));
        assert_ne!(request, "0".repeat(32));
        let took: f64 = answer.header("server-timing").strip_prefix("edge;dur=").unwrap().parse().unwrap();
        assert!(took > 0.0, "{took}");
        let item = page["items"][0]["item_id"].as_str().unwrap();
        let mut explained = 0;
        // Records are stored behind the answer.
        for _ in 0..100 {
            explained = platform.edge.get(&format!("/v1/explain?request_id={request}&item_id={item}")).await.status;
            if explained == 200 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(explained, 200, "the decision of the {cache} is not on record");
    }
    let metrics = platform.admin.get("/metrics").await.text();
    assert!(metrics.lines().all(|line| line.starts_with('#')), "{metrics}");
    let state = platform.state.clone();
    assert!(platform.interrupt().success());
    let after = written(&state);
    for what in ["resourceSpans", "personalization_complete"] {
        assert_eq!(after.matches(what).count(), before.matches(what).count(), "{what}");
    }
}
