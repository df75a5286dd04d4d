//! Each drill ends with its alert's expression true and its cause named, on real tools, from an empty folder, in under five
//! minutes. `cargo xtask faults --drills` runs them; without ATTUNE_DRILLS, which names drills or `all`, none is run here.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;

use platform::{attune, signal};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(300);

/// Name, the tools it needs, its alerts, and a word of the cause.
const DRILLS: [(&str, &[&str], &[&str], &str); 9] = [
    ("silent-drift", &["prometheus"], &["FeatureDrift"], "user_age_bucket"),
    ("latency", &["prometheus"], &["HighLatency"], "ranking"),
    ("embedding-pipeline", &["prometheus"], &["EmbeddingPipelineDown"], "embedder"),
    ("llm-down", &["prometheus"], &["LLMUnavailable"], "nobody listens"),
    ("redis-down", &["prometheus", "redis-server"], &["DataPipelineDown"], "Redis"),
    ("region-drain", &["prometheus"], &["RegionFailover", "RegionDown"], "west was drained"),
    ("other-crowd", &["prometheus"], &["FeatureDrift"], "other visitors"),
    ("dominated-impressions", &["prometheus"], &["ArmPullsConcentrated"], "too few candidates"),
    ("frozen-exploration", &["prometheus"], &["ExplorationOutOfRange"], "no slot explore"),
];
/// Whether a drill should find it; says so where it should not.
fn installed(name: &str, test: &str) -> bool {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let tools = var("ATTUNE_TOOLS").or_else(|| Some(var("HOME")?.join(".cache/attune-tools")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = tools.map(|tools| tools.join("bin")).into_iter().chain(std::env::split_paths(&path));
    let found = folders.any(|folder| folder.join(name).is_file());
    if !found {
        eprintln!("skipped: {test}: {name} is not installed");
    }
    found
}

fn drill(name: &str, state: &Path) -> Command {
    let mut command = attune();
    command.args(["drill", name, "--json", "--state"]).arg(state);
    command.stdin(Stdio::null());
    command
}

fn report(name: &str, state: &Path) -> (Option<i32>, Value) {
    let output = drill(name, state).stderr(Stdio::inherit()).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name}: {error}: {line:?}"));
    assert_eq!(line["event"], "drilled");
    (output.status.code(), line["report"].clone())
}

#[test]
fn each_drill_finds_its_cause() {
    let wanted = std::env::var_os("ATTUNE_DRILLS").unwrap_or_default().into_string().unwrap();
    let is_wanted = |name: &str| wanted == "all" || wanted.split(',').any(|wanted| wanted == name);
    for (name, tools, alerts, word) in DRILLS {
        if !is_wanted(name) {
            eprintln!("skipped: drill {name}: ATTUNE_DRILLS does not name it (cargo xtask faults --drills)");
            continue;
        }
        if !tools.iter().all(|tool| installed(tool, name)) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let (code, report) = report(name, &dir.path().join("drill"));
        println!("{name}: {:.0?}, {report}", begun.elapsed());
        assert_eq!((code, &report["passed"]), (Some(0), &Value::Bool(true)), "{report:#}");
        assert!(begun.elapsed() < LIMIT, "{name} took {:?}", begun.elapsed());
        let named: Vec<_> = report["alerts"].as_array().unwrap().iter().map(|alert| &alert["name"]).collect();
        assert_eq!(named, alerts);
        for alert in report["alerts"].as_array().unwrap() {
            assert!(alert["true_after"].as_f64().unwrap() >= 0.0, "{alert}");
            let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(alert["runbook"].as_str().unwrap());
            let runbook = std::fs::read_to_string(runbook).unwrap();
            assert!(runbook.contains(&format!("`attune drill {name}`")), "the runbook of {alert} does not name {name}");
        }
        assert!(report["cause"].as_str().unwrap().contains(word), "{report:#}");
        assert!(!leftover(&dir.path().join("drill")), "a process of {name} outlived it");
    }
}

/// Whether a process still has the folder in its arguments.
fn leftover(folder: &Path) -> bool {
    let folder = folder.to_str().unwrap().to_owned();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    processes
        .filter_map(|path| std::fs::read(path.join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(&folder))
}

#[test]
fn what_it_cannot_do_is_said_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.stdout.is_empty());
        (output.status.code(), text)
    };
    // Somebody's platform is not drilled.
    std::fs::write(dir.path().join("FORMAT"), "1\n").unwrap();
    let (code, text) = said(&mut drill("llm-down", dir.path()));
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("is the state folder of a platform"), "{text}");
    // An engine that is not there.
    let none = tempfile::tempdir().unwrap();
    let nothing =
        drill("redis-down", &none.path().join("drill")).env("ATTUNE_TOOLS", none.path()).env("PATH", "").output();
    let nothing = nothing.unwrap();
    assert_eq!(nothing.status.code(), Some(75));
    let text = String::from_utf8(nothing.stderr).unwrap();
    assert!(text.contains("Redis is not installed") && text.contains("`cargo xtask tools redis`"), "{text}");
}

#[test]
fn one_that_is_interrupted_leaves_nothing() {
    if !installed("prometheus", "one_that_is_interrupted_leaves_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("drill");
    let mut child = drill("embedding-pipeline", &folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !leftover(&folder.join("separate")) {
        assert!(begun.elapsed() < Duration::from_secs(30), "no platform was started");
        std::thread::sleep(Duration::from_millis(100));
    }
    signal(child.id(), libc::SIGINT);
    child.wait().unwrap();
    let ended = Instant::now();
    while leftover(&folder) {
        assert!(ended.elapsed() < Duration::from_secs(30), "a process outlived its drill");
        std::thread::sleep(Duration::from_millis(100));
    }
}
