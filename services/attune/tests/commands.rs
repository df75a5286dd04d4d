//! The built program from outside: what it prints, what it leaves behind, and its exit codes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn attune(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_attune")).args(args).output().unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one line on stderr of a command that failed as wanted, with nothing on stdout.
fn failure(args: &[&str], code: i32) -> String {
    let output = attune(args);
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert_eq!(stdout(&output), "", "{args:?}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("attune: "), "{stderr}");
    stderr
}

fn success(args: &[&str]) -> String {
    let output = attune(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    stdout(&output)
}

/// Forty visitors of two tastes who click through sixty items, with one row that cannot be read.
fn history(dir: &Path) {
    let mut rows = String::from("user_id,item_id,type,occurred_at\n");
    for user in 0..40u64 {
        for step in 0..14 {
            let item = 30 * (user % 2) + (user * 7 + step * 11) % 30;
            rows.push_str(&format!("u{user},i{item},click,{}\n", 1_700_000_000 + user * 1_000 + step * 60));
        }
    }
    rows.push_str("u1,i1,stare,1700000000\n");
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("events.csv"), rows).unwrap();
}

fn settings(file: &Path) {
    let text = "dim = 16\ntower_epochs = 1\nfinal_epochs = 1\nranker_epochs = 1\nbatch = 32\nclusters = 4\n";
    fs::write(file, text).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn wrong_arguments_are_64_and_help_is_not_a_mistake() {
    assert!(failure(&["import", "--colour", "red"], 64).contains("'--colour'"));
    assert!(failure(&["import", "x", "--from", "xml", "--to", "y"], 64).contains("xml"));
    assert!(failure(&[], 64).contains("subcommand"));
    assert!(failure(&["simulate", "--edge", "ftp://x", "--duration", "1s"], 64).contains("http://HOST:PORT"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("train.toml");
    fs::write(&file, "dim = 16\nepochz = 3\n").unwrap();
    let clean = "user_id,item_id,type,occurred_at\nu1,i1,click,1700000000\n";
    fs::write(dir.path().join("events.csv"), clean).unwrap();
    let out = dir.path().join("out");
    let train = |config: &Path| {
        failure(&["train", "--data", path(dir.path()), "--out", path(&out), "--config", path(config)], 64)
    };
    assert!(train(&file).contains("epochz"));
    assert!(train(&dir.path().join("absent.toml")).contains("absent.toml"));
    fs::write(&file, "dim = 17\n").unwrap();
    assert!(train(&file).contains("dim"));
    assert!(!out.exists());
    let help = success(&["--help"]);
    for command in ["up", "import", "train", "model", "simulate"] {
        assert!(help.contains(command), "{help}");
    }
    assert!(success(&["--version"]).starts_with("attune "));
}

#[test]
fn a_source_that_is_not_there_or_not_a_source_is_65() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    let absent = dir.path().join("absent");
    for from in [&["--from", "csv"][..], &[]] {
        let args = [&["import", path(&absent), "--to", path(&to)], from].concat();
        assert!(failure(&args, 65).contains("absent"));
    }
    assert!(failure(&["import", path(dir.path()), "--to", path(&to)], 65).contains("cannot tell the format"));
    fs::write(dir.path().join("events.csv"), "").unwrap();
    assert!(failure(&["import", path(dir.path()), "--to", path(&to)], 65).contains("empty"));
    assert!(failure(&["train", "--data", path(&absent), "--out", path(&to)], 65).contains("absent"));
    assert!(failure(&["model", "ls", "--state", path(&absent)], 65).contains("absent"));
    assert!(!to.exists(), "a refused import leaves nothing");
}

#[test]
fn import_keeps_the_good_rows_and_reports_every_bad_one() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, to) = (dir.path().join("raw"), dir.path().join("to"));
    history(&raw);
    let text = success(&["import", path(&raw), "--to", path(&to)]);
    assert!(text.contains("unknown type") && text.contains("events.csv:562"), "{text}");
    let key = fs::metadata(to.join("keys/subject.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);

    // Again, under the same key: the same data set.
    let report: Value = serde_json::from_str(&success(&["import", path(&raw), "--to", path(&to), "--json"])).unwrap();
    assert_eq!(report["rows_read"], 561);
    assert_eq!(report["kept"], 560);
    assert_eq!(report["rejected"]["unknown_type"], 1);
    assert_eq!(report["users"], 40);
    assert_eq!(report["dry_run"], false);
    let hash = report["hash"].as_str().unwrap();
    assert!(text.contains(&hash[..16]), "{text}");
    let saved = attune_dataset::Dataset::load(&to).unwrap();
    assert_eq!((saved.hash().as_str(), saved.events.len()), (hash, 560));
}

#[test]
fn another_key_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, to, other) = (dir.path().join("raw"), dir.path().join("to"), dir.path().join("other.key"));
    history(&raw);
    success(&["import", path(&raw), "--to", path(&to)]);
    let before = fs::read(to.join("dataset.json")).unwrap();
    fs::write(&other, [7; 33]).unwrap();
    let args =
        |key: &Path| ["import", path(&raw), "--to", path(&to), "--subject-key", path(key)].map(str::to_owned).to_vec();
    let fail = |key: &Path| failure(&args(key).iter().map(String::as_str).collect::<Vec<_>>(), 65);
    assert!(fail(&other).contains("subject key"));
    assert!(fail(&dir.path().join("no.key")).contains("no.key"), "a key that was asked for is never made up");
    fs::write(&other, b"short").unwrap();
    assert!(fail(&other).contains("must hold"));
    assert_eq!(fs::read(to.join("dataset.json")).unwrap(), before);
}

#[test]
fn a_dry_run_reports_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, to) = (dir.path().join("raw"), dir.path().join("to"));
    history(&raw);
    let args = ["import", path(&raw), "--from", "csv", "--to", path(&to), "--dry-run", "--json"];
    let report: Value = serde_json::from_str(&success(&args)).unwrap();
    assert_eq!((&report["kept"], &report["dry_run"], &report["hash"]), (&560.into(), &true.into(), &Value::Null));
    success(&["import", path(&raw), "--dry-run"]);
    assert_eq!(names(dir.path()), ["raw"]);
    assert_eq!(names(&raw), ["events.csv"]);
}

#[test]
fn nothing_usable_is_65_with_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    let file = dir.path().join("events.csv");
    fs::write(&file, "user_id,item_id,type,occurred_at\nu1,i1,stare,1\nu1,,click,2\n").unwrap();
    let output = attune(&["import", path(&file), "--from", "csv", "--to", path(&to), "--json"]);
    assert_eq!(output.status.code(), Some(65));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["rows_read"], &report["kept"]), (&2.into(), &0.into()));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("2 of 2 rows rejected") && line.lines().count() == 1, "{line}");
    assert!(!to.exists());
}

#[test]
fn a_bundle_is_trained_listed_replaced_and_never_put_over_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, set, config) = (dir.path().join("raw"), dir.path().join("set"), dir.path().join("train.toml"));
    let (state, mine) = (dir.path().join("state"), dir.path().join("mine"));
    history(&raw);
    settings(&config);
    success(&["import", path(&raw), "--to", path(&set)]);
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("letter.txt"), "dear").unwrap();
    let refused = |out: &Path| failure(&["train", "--data", path(&set), "--out", path(out)], 65);
    assert!(refused(&mine).contains("not a bundle"));
    assert!(refused(&mine.join("letter.txt")).contains("not a folder"));
    assert_eq!(names(&mine), ["letter.txt"]);

    let out = state.join("bundles/first");
    let train = |data: &Path, extra: &[&str]| {
        let args = [&["train", "--data", path(data), "--out", path(&out), "--config", path(&config)], extra].concat();
        success(&args)
    };
    let told: Value = serde_json::from_str(&train(&set, &["--json"])).unwrap();
    let version = told["version"].as_str().unwrap().to_owned();
    assert_eq!((&told["users"], &told["dim"]), (&40.into(), &16.into()));
    assert!(!told["heads"].as_array().unwrap().is_empty());
    assert_eq!(attune_model::Bundle::load(&out).unwrap().version().to_string(), version);

    // From the raw folder and under another seed: another bundle in the same place, and nothing beside it.
    let text = train(&raw, &["--seed", "2"]);
    assert!(text.contains("head click"), "{text}");
    let second = attune_model::Bundle::load(&out).unwrap().version().to_string();
    assert!(second != version && text.contains(&second), "{text}");
    assert_eq!(names(&state.join("bundles")), ["first"]);

    let listed = success(&["model", "ls", "--state", path(&state), "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed["version"], &listed["data"]), (&second.as_str().into(), &"raw".into()));
    assert_eq!(listed["live"], false);
    let named = state.join("bundles").join(&second);
    fs::rename(&out, &named).unwrap();
    fs::write(state.join("bundles/live"), &second).unwrap();
    let text = success(&["model", "ls", "--state", path(&state)]);
    assert!(text.starts_with(&second) && text.lines().next().unwrap().ends_with("  live"), "{text}");

    let items = named.join("items.safetensors");
    let mut bytes = fs::read(&items).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&items, bytes).unwrap();
    let output = attune(&["model", "ls", "--state", path(&state)]);
    assert_eq!(output.status.code(), Some(65));
    assert!(stdout(&output).contains("damaged: section items"), "{}", stdout(&output));
}

#[test]
fn too_little_to_train_on_is_65() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
    fs::create_dir(&raw).unwrap();
    fs::write(raw.join("events.csv"), "user_id,item_id,type,occurred_at\nu1,i1,click,1\nu1,i2,click,2\n").unwrap();
    assert!(failure(&["train", "--data", path(&raw), "--out", path(&out)], 65).contains("cannot be trained on"));
    assert!(!out.exists());
}
