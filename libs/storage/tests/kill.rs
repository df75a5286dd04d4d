//! A process that appends at full speed is killed at random moments; what it acknowledged must stand.
//!
//! The process is this test binary again, told by a variable. `ATTUNE_TEST_SEED` repeats a run.

use attune_storage::{Appended, DedupKey, EmbeddedEventLog, EventLog, Record, Topic};
use bytes::Bytes;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const ROUNDS: u64 = 20;
const WRITERS: u64 = 8;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

/// Call `n` of a writer in a round: 1 to 20 records that know their call, place and number.
fn call(round: u64, writer: u64, n: u64) -> Vec<(Record, Option<DedupKey>)> {
    let len = 1 + Rng(round << 40 | writer << 32 | n).next(20);
    (0..len)
        .map(|i| {
            let value: Vec<u8> = [round, writer, n, i, len].iter().flat_map(|v| v.to_be_bytes()).collect();
            let value = Bytes::from(value);
            let identity = Some(DedupKey { day: round as i64, identity: value.clone() });
            (Record { key: Bytes::from_static(b"k"), value, traceparent: String::new() }, identity)
        })
        .collect()
}

fn fields(value: &[u8]) -> [u64; 5] {
    let (words, rest) = value.as_chunks::<8>();
    assert!(rest.is_empty());
    std::array::from_fn(|i| u64::from_be_bytes(words[i]))
}

/// The process that is killed. Does nothing in an ordinary run of the tests.
#[test]
fn appender() {
    let (Some(dir), Some(round)) = (std::env::var_os("ATTUNE_TEST_DIR"), std::env::var_os("ATTUNE_TEST_ROUND")) else {
        return;
    };
    let round: u64 = round.to_str().unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Arc::new(EmbeddedEventLog::open(Path::new(&dir)).unwrap());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let log = log.clone();
                tokio::spawn(async move {
                    for n in 0.. {
                        let records = call(round, writer, n);
                        let appended = log.append(Topic::UserEvents, records).await.unwrap();
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "\nack {writer} {n} {}", appended[0].offset()).unwrap();
                        out.flush().unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

/// Runs the appender until it has acknowledged something and some more time, kills it, and returns what it acknowledged.
fn run_and_kill(dir: &Path, round: u64, after: Duration) -> Vec<(u64, u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "appender", "--nocapture"])
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
        // The last complete-looking line may lack digits of its offset.
        acks.pop();
        acks
    });
    started.recv().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was killed, it did not end");
    reader.join().unwrap()
}

async fn everything(log: &EmbeddedEventLog, mut from: u64) -> Vec<(u64, Record)> {
    let mut all = Vec::new();
    loop {
        let found = log.read(Topic::UserEvents, from, 10_000, Duration::ZERO).await.unwrap();
        let Some((last, _)) = found.last() else { return all };
        from = last + 1;
        all.extend(found);
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_being_killed() {
    let seed = match std::env::var_os("ATTUNE_TEST_SEED") {
        Some(seed) => seed.to_str().unwrap().parse().unwrap(),
        None => u64::from(std::process::id()),
    };
    println!("ATTUNE_TEST_SEED={seed}");
    let mut rng = Rng(seed);
    let dir = tempfile::tempdir().unwrap();
    let (mut end, mut acknowledged) = (0, 0);
    for round in 0..ROUNDS {
        let acks = run_and_kill(dir.path(), round, Duration::from_millis(rng.next(150)));
        let log = EmbeddedEventLog::open(dir.path()).unwrap();
        let all = everything(&log, end).await;
        assert!(all.iter().zip(end..).all(|((at, _), expected)| *at == expected), "offsets are dense");
        // Calls are whole and stand once.
        let mut calls: HashMap<(u64, u64), u64> = HashMap::new();
        let mut i = 0;
        while i < all.len() {
            let [r, writer, n, first, len] = fields(&all[i].1.value);
            assert_eq!((r, first), (round, 0), "round {round}: a call begins at its beginning");
            let whole = all[i..].iter().take(len as usize).map(|(_, record)| record);
            assert!(whole.eq(call(round, writer, n).iter().map(|(record, _)| record)), "round {round}: a torn call");
            assert_eq!(calls.insert((writer, n), all[i].0), None, "round {round}: a call stands twice");
            i += len as usize;
        }
        for &(writer, n, offset) in &acks {
            assert_eq!(calls.get(&(writer, n)), Some(&offset), "round {round}: acknowledged and not there");
        }
        acknowledged += acks.len();
        end += all.len() as u64;
        // Dedup holds: all that stands is a duplicate where it stands, even if nobody was told.
        for (&(writer, n), &offset) in &calls {
            let again = log.append(Topic::UserEvents, call(round, writer, n)).await.unwrap();
            assert!(again.iter().zip(offset..).all(|(a, at)| *a == Appended::Duplicate(at)), "round {round}");
        }
        assert_eq!(log.bounds(Topic::UserEvents).await.unwrap().end, end);
    }
    println!("{ROUNDS} rounds, {acknowledged} acknowledged calls, {end} records");
    assert!(acknowledged as u64 >= ROUNDS);
}
