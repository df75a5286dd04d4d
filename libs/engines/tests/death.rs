//! Servers end with the process that started them, however it ends.
//!
//! This program starts itself again as that process: [`Role`] comes through the environment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_engines::{Engine, Kafka, Redis, available};
use std::ffi::OsStr;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ROLE: &str = "ATTUNE_ENGINES_ROLE";
const REPORT: &str = "ATTUNE_ENGINES_REPORT";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    /// Waits for its SIGKILL.
    Stays,
    /// Ends by itself, without the destructors of its statics.
    Leaves,
}

#[test]
fn redis_dies_with_a_killed_process() {
    let name = "redis_dies_with_a_killed_process";
    check(name, Engine::Redis, Role::Stays);
}

#[test]
fn redis_dies_with_a_process_that_leaves() {
    let name = "redis_dies_with_a_process_that_leaves";
    check(name, Engine::Redis, Role::Leaves);
}

#[test]
fn kafka_dies_with_a_killed_process() {
    let name = "kafka_dies_with_a_killed_process";
    check(name, Engine::Kafka, Role::Stays);
}

fn check(test: &str, engine: Engine, role: Role) {
    if let Some(report) = std::env::var_os(REPORT) {
        play(engine, std::env::var_os(ROLE).as_deref(), Path::new(&report));
        return;
    }
    if !available(engine, test) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let report = scratch.path().join("report");
    let folders = scratch.path().join("folders");
    fs::create_dir(&folders).unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", test]).env(ROLE, format!("{role:?}")).env(REPORT, &report).env("TMPDIR", &folders);
    let mut process = process.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();

    wait_until("the process reports", || report.exists() || process.try_wait().unwrap().is_some());
    let told = fs::read_to_string(&report).expect("the process starts its server");
    let (id, address) = told.split_once(' ').unwrap();
    let server = PathBuf::from(format!("/proc/{id}"));
    if role == Role::Stays {
        assert!(server.exists() && TcpStream::connect(address).is_ok(), "the server runs while the process does");
        assert_eq!(fs::read_dir(&folders).unwrap().count(), 1);
        process.kill().unwrap();
    }
    process.wait().unwrap();
    wait_until("the server ends", || !server.exists() && TcpStream::connect(address).is_err());
    wait_until("its folder is removed", || fs::read_dir(&folders).unwrap().count() == 0);
}

fn play(engine: Engine, role: Option<&OsStr>, report: &Path) {
    // On a thread that ends before the process does, which must not matter.
    let started = thread::spawn(move || match engine {
        Engine::Redis => Redis::shared().map(|redis| (redis.process_id(), redis.address())),
        Engine::Kafka => Kafka::shared().map(|kafka| (kafka.process_id(), kafka.bootstrap())),
    });
    let (id, address) = started.join().unwrap().unwrap();
    let draft = report.with_extension("draft");
    fs::write(&draft, format!("{} {address}", id.unwrap())).unwrap();
    fs::rename(&draft, report).unwrap();
    if role == Some(OsStr::new("Stays")) {
        loop {
            thread::park();
        }
    }
    std::process::exit(0);
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(90), "{what}: not after {:?}", start.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
}
