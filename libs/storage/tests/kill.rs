//! A process that writes at full speed is killed at random moments; what it acknowledged must stand.
//!
//! The process is this test binary again, told by a variable. `ATTUNE_TEST_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "kill/decisions.rs"]
mod decisions;
#[path = "kill/events.rs"]
mod events;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// SplitMix64.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// From the seed that is printed, or given.
    pub(crate) fn seeded() -> Self {
        let seed = match std::env::var_os("ATTUNE_TEST_SEED") {
            Some(seed) => seed.to_str().unwrap().parse().unwrap(),
            None => u64::from(std::process::id()),
        };
        println!("ATTUNE_TEST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

/// The folder and the round, in the process that is killed; nothing in an ordinary run of the tests.
pub(crate) fn told() -> Option<(PathBuf, u64)> {
    let dir = std::env::var_os("ATTUNE_TEST_DIR")?;
    let round = std::env::var_os("ATTUNE_TEST_ROUND")?;
    Some((dir.into(), round.to_str().unwrap().parse().unwrap()))
}

/// Tells the other side; whole lines only are believed.
pub(crate) fn acknowledge(numbers: [u64; 3]) {
    use std::io::Write as _;
    let [a, b, c] = numbers;
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nack {a} {b} {c}").unwrap();
    out.flush().unwrap();
}

/// Runs `test` as a process until it has acknowledged something and some more time, kills it, and returns what it
/// acknowledged.
pub(crate) fn run_and_kill(test: &str, dir: &Path, round: u64, after: Duration) -> Vec<(u64, u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("ATTUNE_TEST_DIR", dir)
        .env("ATTUNE_TEST_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let (first, started) = std::sync::mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut acks = Vec::new();
        for line in out.split(b'\n') {
            let line = String::from_utf8(line.unwrap()).unwrap();
            let Some(ack) = line.strip_prefix("ack ") else { continue };
            let numbers: Vec<u64> = ack.split(' ').filter_map(|n| n.parse().ok()).collect();
            // The last line may be torn.
            if let [writer, n, offset] = numbers[..] {
                acks.push((writer, n, offset));
                let _ = first.send(());
            }
        }
        // The last complete-looking line may lack digits of its last number.
        acks.pop();
        acks
    });
    started.recv().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was killed, it did not end");
    reader.join().unwrap()
}
