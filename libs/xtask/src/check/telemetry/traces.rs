//! Traces of a platform of seven processes, through a real Collector with our configuration, into a real Jaeger, asked for there.

use super::process::{Server, ask, free_addresses, platform, said};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SERVICES: [&str; 7] = ["edge", "origin", "retrieval", "ranking", "bandit", "llm", "embedder"];
/// Visitors, each of whom asks for one page with reasons, which makes its trace one that is always kept, and for others.
const VISITORS: usize = 50;
const OTHERS: usize = 40;
/// Spans that a page with reasons has when everything was asked.
const WHOLE: [&str; 8] = [
    "edge.personalize",
    "edge.cache_lookup",
    "api.personalize",
    "context.build",
    "retrieval.candidates",
    "ranking.score",
    "bandit.sample",
    "llm.reason",
];

/// The Collector reads each configuration and can make its parts.
pub(super) fn check_configurations(root: &Path, collector: &Path) -> anyhow::Result<()> {
    let work = tempfile::tempdir().context("create a folder")?;
    let folder = root.join("observability/collector");
    let (gateway, more) = (folder.join("gateway.yaml"), folder.join("gateway-tail-sampling.yaml"));
    for files in [vec![&gateway], vec![&gateway, &more]] {
        let mut validate = Command::new(collector);
        validate.arg("validate").env("ATTUNE_COLLECTOR_STATE", work.path());
        for file in &files {
            validate.arg("--config").arg(file);
        }
        said(&mut validate, "validate the Collector's configuration")?;
        println!(
            "collector: takes {}",
            files.iter().filter_map(|file| file.file_name()?.to_str()).collect::<Vec<_>>().join(" with ")
        );
    }
    Ok(())
}

/// A span as Jaeger gives it back.
struct Span {
    name: String,
    id: String,
    parent: Option<String>,
    service: String,
    tags: BTreeMap<String, String>,
}

pub(super) fn check(root: &Path, collector: &Path, jaeger: &Path, attune: &Path) -> anyhow::Result<()> {
    let work = tempfile::tempdir().context("create a folder")?;
    let [otlp, jaeger_http, jaeger_grpc, grpc, http, health, metrics, own] = free_addresses()?;
    let mut command = Command::new(jaeger);
    command.arg("--config").arg(root.join("observability/jaeger/jaeger.yaml"));
    command.envs([
        ("ATTUNE_JAEGER", &otlp),
        ("ATTUNE_JAEGER_HTTP", &jaeger_http),
        ("ATTUNE_JAEGER_GRPC", &jaeger_grpc),
    ]);
    let mut jaeger = Server::start("Jaeger", command.stdout(Stdio::null()), &work.path().join("jaeger.log"))?;
    jaeger.wait_for(&jaeger_http, Duration::from_secs(60))?;
    jaeger.wait_for(&otlp, Duration::from_secs(60))?;

    let file = work.path().join("traces.jsonl");
    let (self_host, self_port) = own.split_once(':').context("split an address")?;
    let mut command = Command::new(collector);
    command.arg("--config").arg(root.join("observability/collector/gateway.yaml"));
    command.envs([("ATTUNE_JAEGER", &otlp), ("ATTUNE_COLLECTOR_GRPC", &grpc), ("ATTUNE_COLLECTOR_HTTP", &http)]);
    command.envs([("ATTUNE_COLLECTOR_HEALTH", &health), ("ATTUNE_COLLECTOR_METRICS", &metrics)]);
    command.envs([("ATTUNE_COLLECTOR_SELF_HOST", self_host), ("ATTUNE_COLLECTOR_SELF_PORT", self_port)]);
    command.env("ATTUNE_COLLECTOR_STATE", work.path().join("collector")).env("ATTUNE_COLLECTOR_FILE", &file);
    let mut collector =
        Server::start("the Collector", command.stdout(Stdio::null()), &work.path().join("collector.log"))?;
    collector.wait_for(&grpc, Duration::from_secs(60))?;

    let mut settings = String::from("[edge.experiment]\nholdout = 0.0\n");
    for service in SERVICES {
        // A tenth of the hits, so that their number shows whether the weights are right.
        writeln!(settings, "[{service}.process.telemetry]\notlp = \"http://{grpc}\"\nsample_edge_only = 0.1")
            .context("write settings")?;
    }
    let config = work.path().join("settings.toml");
    fs::write(&config, settings).context("write settings")?;
    let more = ["--config".as_ref(), config.as_os_str()];
    let (platform, ready) = platform(attune, work.path(), &more)?;
    let edge = ready["edge"].as_str().and_then(|url| url.strip_prefix("http://")).context("find the edge")?;
    let kept = drive(edge)?;
    for id in &kept {
        whole(id, &arrived(&jaeger_http, id)?).with_context(|| format!("trace {id}"))?;
    }
    println!("traces: all {} traces that must be kept are in Jaeger, whole", kept.len());
    drop(platform);
    drop(collector);
    let written = fs::read_to_string(&file).context("read what the Collector wrote")?;
    ensure!(kept.iter().all(|id| written.contains(id.as_str())), "the Collector's file lacks a trace");
    let counted = adjusted(&written)?;
    let (sent, sigma) = ((VISITORS * (OTHERS + 1)) as f64, counted.1.sqrt());
    println!("traces: kept spans stand for {:.0} +- {sigma:.0} pages of {sent:.0}", counted.0);
    ensure!((counted.0 - sent).abs() <= 4.0 * sigma.max(1.0), "the weights do not add up");
    Ok(())
}

/// Asks for the pages. Gives the ids of the traces that must be kept.
fn drive(edge: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut kept = BTreeSet::new();
    for visitor in 0..VISITORS {
        for page in 0..=OTHERS {
            let body = json!({"user_id": format!("check-{visitor}"), "limit": 5, "explain": page == 0});
            let (status, answer) = ask(edge, "POST", "/v1/personalize", &body.to_string())?;
            ensure!(status == 200, "a page was answered {status}: {answer}");
            let answer: Value = serde_json::from_str(&answer).context("read a page")?;
            let id = answer["request_id"].as_str().context("a page has no id")?;
            // One that fell back is kept as well, but has other spans.
            if page == 0 && answer["tier"] == "llm" && answer["level"] == 0 {
                kept.insert(id.to_owned());
            }
        }
    }
    ensure!(kept.len() * 2 > VISITORS, "only {} pages were served in full: the machine is too busy", kept.len());
    Ok(kept)
}

/// What Jaeger has of a trace, once it holds still.
fn arrived(jaeger: &str, id: &str) -> anyhow::Result<Vec<Span>> {
    let until = Instant::now() + Duration::from_secs(30);
    let mut last = 0;
    loop {
        let (status, body) = ask(jaeger, "GET", &format!("/api/traces/{id}"), "")?;
        let spans = if status == 200 {
            spans(&serde_json::from_str(&body).context("read Jaeger's answer")?)
        } else {
            Vec::new()
        };
        let missing: Vec<_> = WHOLE.iter().filter(|name| !spans.iter().any(|span| span.name == **name)).collect();
        if missing.is_empty() && spans.len() == last {
            return Ok(spans);
        }
        ensure!(Instant::now() < until, "trace {id} in Jaeger ({status}) lacks {missing:?}");
        last = spans.len();
        std::thread::sleep(Duration::from_millis(if last == 0 { 500 } else { 200 }));
    }
}

fn spans(answer: &Value) -> Vec<Span> {
    let trace = &answer["data"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |span: &Value| Span {
        name: text(&span["operationName"]),
        id: text(&span["spanID"]),
        parent: span["references"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["refType"] == "CHILD_OF"))
            .map(|one| text(&one["spanID"])),
        service: text(&trace["processes"][span["processID"].as_str().unwrap_or_default()]["serviceName"]),
        tags: span["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|tag| (text(&tag["key"]), tag["value"].to_string()))
            .collect(),
    };
    trace["spans"].as_array().into_iter().flatten().map(one).collect()
}

/// One tree, from the edge's root, over six services; no orphan.
fn whole(id: &str, spans: &[Span]) -> anyhow::Result<()> {
    let by_id: HashMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    ensure!(by_id.len() == spans.len(), "{id} has a span twice");
    let roots: Vec<_> = spans.iter().filter(|span| span.parent.is_none()).map(|span| span.name.as_str()).collect();
    ensure!(roots == ["edge.personalize"], "{id} has the roots {roots:?}");
    for span in spans {
        let known = span.parent.as_ref().is_none_or(|parent| by_id.contains_key(parent.as_str()));
        ensure!(known, "{} of {id} is an orphan", span.name);
    }
    let services: BTreeSet<_> = spans.iter().map(|span| span.service.as_str()).collect();
    ensure!(services.len() == 6, "{id} went through {services:?}");
    let root = spans.iter().find(|span| span.parent.is_none()).context("no root")?;
    ensure!(root.tags.contains_key("sampling.reason"), "{id} does not say why it was kept: {:?}", root.tags);
    Ok(())
}

/// Sum of the adjusted counts of the edge's pages in what the Collector wrote, and its variance.
fn adjusted(written: &str) -> anyhow::Result<(f64, f64)> {
    let mut total = (0.0, 0.0);
    for line in written.lines() {
        let export: Value = serde_json::from_str(line).context("read what the Collector wrote")?;
        let resources = export["resourceSpans"].as_array().into_iter().flatten();
        let scopes = resources.flat_map(|resource| resource["scopeSpans"].as_array().into_iter().flatten());
        for span in scopes.flat_map(|scope| scope["spans"].as_array().into_iter().flatten()) {
            if span["name"] != "edge.personalize" {
                continue;
            }
            let attributes = span["attributes"].as_array().into_iter().flatten();
            let count = attributes
                .filter(|one| one["key"] == "sampling.adjusted_count")
                .find_map(|one| one["value"]["doubleValue"].as_f64());
            let weight = count.context("a root has no adjusted count")?;
            total.0 += weight;
            total.1 += weight * (weight - 1.0);
        }
    }
    Ok(total)
}
