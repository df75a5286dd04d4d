//! The event log.

use crate::{Rng, acknowledge, run_and_kill, told};
use attune_storage::{Appended, DedupKey, EmbeddedEventLog, EventLog, Record, Topic};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const ROUNDS: u64 = 20;
const WRITERS: u64 = 8;

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
    let Some((dir, round)) = told() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Arc::new(EmbeddedEventLog::open(&dir).unwrap());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let log = log.clone();
                tokio::spawn(async move {
                    for n in 0.. {
                        let records = call(round, writer, n);
                        let appended = log.append(Topic::UserEvents, records).await.unwrap();
                        acknowledge([writer, n, appended[0].offset()]);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
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
    let mut rng = Rng::seeded();
    let dir = tempfile::tempdir().unwrap();
    let (mut end, mut acknowledged) = (0, 0);
    for round in 0..ROUNDS {
        let acks = run_and_kill("events::appender", dir.path(), round, Duration::from_millis(rng.next(150)));
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
