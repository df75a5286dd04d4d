//! The operators' kit under the real promtool, amtool, Prometheus and Alertmanager.
//!
//! `.ci/test` installs them first. A test whose tool is not there says so by name, and what needs no tool is checked by
//! `cargo xtask tidy` and its tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;

use server::Server;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn kit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../observability")
}

/// Where the tool is; None, and a line that says so, where it is not installed.
fn tool(name: &str, test: &str) -> Option<PathBuf> {
    let asked = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["tools", "--offline", name]).output().unwrap();
    let said = String::from_utf8(asked.stdout).unwrap();
    let path = said.trim().strip_prefix(name).map(|path| PathBuf::from(path.trim()));
    if path.is_none() {
        eprintln!("skipped: {test}: {name} is not installed (cargo xtask tools {name})");
    }
    path
}

fn run(tool: &Path, arguments: &[&str], folder: &Path) -> Output {
    Command::new(tool).args(arguments).current_dir(folder).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn passes(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert!(!names.is_empty(), "nothing in {}", folder.display());
    names
}

/// A copy of Prometheus' part of the kit with one file changed.
fn changed(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let source = kit().join("prometheus");
    fs::copy(source.join("prometheus.yml"), copy.path().join("prometheus.yml")).unwrap();
    for folder in ["rules", "tests"] {
        fs::create_dir(copy.path().join(folder)).unwrap();
        for name in names(&source.join(folder)) {
            fs::copy(source.join(folder).join(&name), copy.path().join(folder).join(&name)).unwrap();
        }
    }
    let path = copy.path().join(file);
    let old = fs::read_to_string(&path).unwrap();
    let new = old.replacen(from, to, 1);
    assert_ne!(old, new, "{from:?} is not in {file}");
    fs::write(path, new).unwrap();
    copy
}

#[test]
fn promtool_accepts_configuration_and_rules() {
    let Some(promtool) = tool("promtool", "promtool_accepts_configuration_and_rules") else { return };
    passes(&run(&promtool, &["check", "config", "prometheus.yml"], &kit().join("prometheus")));
}

#[test]
fn a_real_prometheus_loads_every_rule() {
    let Some(program) = tool("prometheus", "a_real_prometheus_loads_every_rule") else { return };
    let folder = kit().join("prometheus");
    let prometheus = Server::prometheus(&program, &folder).unwrap();
    let looked_up = (0..600).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        prometheus.rules()
    });
    let rules = looked_up.expect("rules within a minute");
    let texts = names(&folder.join("rules"))
        .into_iter()
        .map(|name| fs::read_to_string(folder.join("rules").join(name)).unwrap());
    let written: usize = texts.map(|text| text.matches("- alert: ").count() + text.matches("- record: ").count()).sum();
    assert_eq!(rules.len(), written);
    let failed: Vec<_> = rules.iter().filter(|rule| rule["health"] == "err").collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_rule_does_what_its_tests_say() {
    let Some(promtool) = tool("promtool", "every_rule_does_what_its_tests_say") else { return };
    let folder = kit().join("prometheus");
    let names = names(&folder.join("tests"));
    // They are processes of their own, so they may run beside each other.
    std::thread::scope(|scope| {
        let start = |name: &str| {
            let file = format!("tests/{name}");
            let (promtool, folder) = (&promtool, &folder);
            scope.spawn(move || run(promtool, &["test", "rules", &file], folder))
        };
        let running: Vec<_> = names.iter().map(|name| start(name)).collect();
        let ended: Vec<_> = running.into_iter().map(|thread| thread.join().unwrap()).collect();
        ended.iter().for_each(passes);
    });
}

#[test]
fn a_rule_that_does_not_parse_is_refused() {
    let Some(promtool) = tool("promtool", "a_rule_that_does_not_parse_is_refused") else { return };
    let copy = changed(
        "rules/critical.yml",
        "region:api_errors:ratio_rate5m > 0.01",
        "region:api_errors:ratio_rate5m > > 0.01",
    );
    let output = run(&promtool, &["check", "config", "prometheus.yml"], copy.path());
    assert!(!output.status.success() && text(&output).contains("could not parse expression"), "{}", text(&output));
}

#[test]
fn a_rule_with_another_threshold_is_refused() {
    let Some(promtool) = tool("promtool", "a_rule_with_another_threshold_is_refused") else { return };
    // A region that keeps a thousandth of its traffic has lost it; the test's one keeps a hundredth.
    let copy = changed("rules/info.yml", "> 0.2 * sum by (region)", "> 0.001 * sum by (region)");
    let output = run(&promtool, &["test", "rules", "tests/info.yml"], copy.path());
    assert!(!output.status.success() && text(&output).contains("RegionFailover"), "{}", text(&output));
}

#[test]
fn amtool_accepts_the_configuration() {
    let Some(amtool) = tool("amtool", "amtool_accepts_the_configuration") else { return };
    let folder = kit().join("alertmanager");
    passes(&run(&amtool, &["check-config", "alertmanager.yml"], &folder));

    let copy = tempfile::tempdir().unwrap();
    let broken =
        fs::read_to_string(folder.join("alertmanager.yml")).unwrap().replacen("receiver: log", "receiver: nobody", 1);
    fs::write(copy.path().join("alertmanager.yml"), broken).unwrap();
    let output = run(&amtool, &["check-config", "alertmanager.yml"], copy.path());
    assert!(!output.status.success() && text(&output).contains("nobody"), "{}", text(&output));
}

/// The lines of a case file, split at tabs.
fn cases(file: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(kit().join("alertmanager").join(file)).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let cases: Vec<_> = lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    assert!(!cases.is_empty(), "no cases in {file}");
    cases
}

fn routed(amtool: &Path, receiver: &str, labels: &str) -> Output {
    let expected = format!("--verify.receivers={receiver}");
    let mut arguments = vec!["config", "routes", "test", "--config.file=alertmanager.yml", &expected];
    arguments.extend(labels.split(' '));
    run(amtool, &arguments, &kit().join("alertmanager"))
}

#[test]
fn alerts_reach_their_receivers() {
    let Some(amtool) = tool("amtool", "alerts_reach_their_receivers") else { return };
    for case in cases("routes.tsv") {
        let [receiver, labels] = &case[..] else { panic!("not a case: {case:?}") };
        passes(&routed(&amtool, receiver, labels));
    }
    let wrong = routed(&amtool, "log", "alertname=HighErrorRate severity=critical");
    assert!(!wrong.status.success(), "a wrong receiver is not noticed: {}", text(&wrong));
}

/// Alertmanager's inhibitor learns of alerts after their POST is answered, in their order: once this pair, the last, shows, it
/// knows those before it.
const WITNESS: [&str; 2] = [
    "alertname=HighLatency severity=critical service=witness region=witness",
    "alertname=LatencyElevated severity=warning service=witness region=witness",
];

#[test]
fn alerts_are_inhibited_as_the_cases_say() {
    let Some(program) = tool("alertmanager", "alerts_are_inhibited_as_the_cases_say") else { return };
    // Each case has an Alertmanager of its own: alerts of one would inhibit those of another.
    for case in cases("inhibitions.tsv") {
        let [expected, source, target] = &case[..] else { panic!("not a case: {case:?}") };
        let alertmanager = match Server::alertmanager(&program, &kit().join("alertmanager")) {
            Ok(alertmanager) => alertmanager,
            Err(said) if said.contains("unshare") || said.contains("mount") => {
                eprintln!("skipped: alerts_are_inhibited_as_the_cases_say: no user namespaces here: {said}");
                return;
            }
            Err(said) => panic!("Alertmanager did not start: {said}"),
        };
        alertmanager.post(&[source, target, WITNESS[0], WITNESS[1]]);
        let begun = Instant::now();
        while !alertmanager.is_muted(WITNESS[1]) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{case:?}: nothing is inhibited at all");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(alertmanager.is_muted(target), expected == "muted", "{case:?}");
    }
}
