//! `attune up --observe` with the real tools: every process is scraped, every rule loaded, and all end together.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;

use platform::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Two scrapes are 15 s apart.
const PATIENCE: Duration = Duration::from_secs(90);

/// Whether `--observe` should find it; says so where it should not.
fn installed(name: &str, test: &str) -> bool {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let tools = var("ATTUNE_TOOLS").or_else(|| Some(var("HOME")?.join(".cache/attune-tools")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = |tools: &PathBuf| {
        let folders = fs::read_dir(tools).into_iter().flatten().map(|entry| entry.unwrap().path());
        folders
            .filter(|folder| folder.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}-")))
            .collect()
    };
    let built: Vec<PathBuf> = tools.as_ref().map(own).unwrap_or_default();
    let folders = tools.map(|tools| tools.join("bin")).into_iter().chain(built).chain(std::env::split_paths(&path));
    let found = folders.into_iter().any(|folder| folder.join(name).is_file());
    if !found {
        eprintln!("skipped: {test}: {name} is not installed");
    }
    found
}

/// Asks again until the answer suits.
async fn until<T>(what: &str, site: &Site, path: &str, suits: impl Fn(&Value) -> Option<T>) -> T {
    let begun = Instant::now();
    let mut last = String::new();
    while begun.elapsed() < PATIENCE {
        if let Ok(answer) = site.try_send(http::Method::GET, path, &[], "").await {
            last = answer.text();
            if answer.status == 200
                && let Some(found) = suits(&answer.json())
            {
                return found;
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("{what}: {last}");
}

/// Names in the rule files, alerts and recorded series.
fn rules_of_the_kit() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../observability/prometheus/rules");
    let mut names = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let rules = text.lines().map(|line| line.trim_start().trim_start_matches("- "));
        names.extend(
            rules.filter_map(|rule| Some(rule.strip_prefix("alert: ").or(rule.strip_prefix("record: "))?.to_owned())),
        );
    }
    assert!(names.len() > 20);
    names
}

async fn is_observed(separate: bool, test: &str) {
    if !installed("prometheus", test) {
        return;
    }
    let (alertmanager, jaeger) = (installed("alertmanager", test), installed("jaeger", test));
    let dir = state();
    let arguments: &[&str] = if separate { &["--observe", "--separate"] } else { &["--observe"] };
    let platform = Platform::start(&dir, arguments);
    let tool = |name: &str| platform.ready["observe"][name].as_str().map(Site::new);
    let prometheus = tool("prometheus").expect("Prometheus is installed");
    assert_eq!((tool("alertmanager").is_some(), tool("jaeger").is_some()), (alertmanager, jaeger));

    let body = json!({"user_id": "u1", "limit": 5, "explain": true});
    let request = platform.edge.post("/v1/personalize", &body).await.json()["request_id"].as_str().unwrap().to_owned();

    let services: BTreeSet<_> = platform.ready["admin"].as_object().unwrap().keys().cloned().collect();
    let mut expected = if separate { services } else { BTreeSet::from(["attune".to_owned()]) };
    expected.insert("prometheus".to_owned());
    expected.extend(alertmanager.then(|| "alertmanager".to_owned()));
    until("every target is up", &prometheus, "/api/v1/targets?state=active", |answer| {
        let targets = answer["data"]["activeTargets"].as_array()?;
        let up = targets.iter().filter(|target| target["health"] == "up");
        let jobs: BTreeSet<_> = up.map(|target| target["labels"]["job"].as_str().unwrap().to_owned()).collect();
        (targets.len() == expected.len() && jobs == expected).then_some(())
    })
    .await;
    let loaded: BTreeSet<_> = until("the rules are loaded", &prometheus, "/api/v1/rules", |answer| {
        let groups = answer["data"]["groups"].as_array().filter(|groups| !groups.is_empty())?;
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        Some(rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect())
    })
    .await;
    assert_eq!(loaded, rules_of_the_kit());
    until("the page was counted", &prometheus, "/api/v1/query?query=sum(personalization_requests_total)", |answer| {
        let value = answer["data"]["result"][0]["value"][1].as_str()?;
        (value.parse::<f64>().unwrap() >= 1.0).then_some(())
    })
    .await;
    if alertmanager {
        until("Prometheus knows Alertmanager", &prometheus, "/api/v1/alertmanagers", |answer| {
            (answer["data"]["activeAlertmanagers"].as_array()?.len() == 1).then_some(())
        })
        .await;
        // It fires always, so its arrival shows the whole way.
        until("an alert arrives", &tool("alertmanager").unwrap(), "/api/v2/alerts", |alerts| {
            alerts.as_array()?.iter().any(|alert| alert["labels"]["alertname"] == "DeadMansSwitch").then_some(())
        })
        .await;
    }
    if let Some(jaeger) = tool("jaeger") {
        let path = format!("/api/traces/{request}");
        until("the kept trace is in Jaeger", &jaeger, &path, |answer| {
            let spans = answer["data"][0]["spans"].as_array()?;
            spans.iter().any(|span| span["operationName"] == "llm.reason").then_some(())
        })
        .await;
    }
    let addresses: Vec<String> =
        platform.ready["observe"].as_object().unwrap().values().map(|a| a.as_str().unwrap()[7..].to_owned()).collect();
    assert!(addresses.iter().all(|address| TcpStream::connect(address).is_ok()));
    assert!(platform.interrupt().success());
    for address in addresses {
        assert!(TcpStream::connect(&address).is_err(), "{address} outlived its platform");
    }
}

#[tokio::test]
async fn one_process_is_observed() {
    is_observed(false, "one_process_is_observed").await;
}

#[tokio::test]
async fn seven_processes_are_observed() {
    is_observed(true, "seven_processes_are_observed").await;
}

/// `up --observe` with nothing installed but what is in `tools`.
fn up(state: &Path, tools: &Path) -> Command {
    let mut command = attune();
    command.args(["up", "--observe", "--json", "--listen", "127.0.0.1:0", "--state"]).arg(state);
    command.env("ATTUNE_TOOLS", tools).env("PATH", tools);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn what_is_not_installed_is_named() {
    let dir = state();
    let tools = tempfile::tempdir().unwrap();
    let mut child = up(&dir.path().join("state"), tools.path()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["observe"], json!({}));
    signal(child.id(), libc::SIGINT);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    for tool in ["prometheus", "alertmanager", "jaeger"] {
        let named = |line: &&str| line.starts_with(&format!("attune: {tool} is not installed"));
        let line = said.lines().find(named).unwrap_or_else(|| panic!("{tool}: {said}"));
        assert!(line.contains(tools.path().to_str().unwrap()), "{line}");
    }
    assert!(said.contains("`cargo xtask tools prometheus`"), "{said}");
}

#[test]
fn a_tool_that_does_not_start_ends_the_platform() {
    let dir = state();
    let tools = tempfile::tempdir().unwrap();
    let program = tools.path().join("bin/prometheus");
    fs::create_dir(tools.path().join("bin")).unwrap();
    fs::write(&program, "#!/bin/sh\necho 'the disk is full' >&2\nexit 3\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output = up(&dir.path().join("state"), tools.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(75), true), "{said}");
    let last = said.lines().last().unwrap();
    assert_eq!(last, "attune: prometheus did not start (exit status: 3): the disk is full");
}
