//! The decision log.

use crate::{Rng, acknowledge, run_and_kill, told};
use attune_domain::{RequestId, Uid};
use attune_proto::decision::v1::DecisionRecord;
use attune_storage::{Decision, DecisionEntry, DecisionLog, EmbeddedDecisionLog, ObjectHash};
use bytes::Bytes;
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ROUNDS: u64 = 20;
const WRITERS: u64 = 8;
/// What became of a call, each only after the one before.
const NOTHING: u64 = 0;
const APPENDED: u64 = 1;
const ERASED: u64 = 2;

/// Of call `n` of a writer: the visitor, records of theirs within a minute, and the state they name.
fn call(round: u64, writer: u64, n: u64) -> (Uid, Vec<DecisionEntry>, (ObjectHash, Bytes)) {
    let mut rng = Rng(round << 40 | writer << 32 | n);
    let mut uid = [0; 17];
    uid[1..9].copy_from_slice(&rng.next(u64::MAX).to_le_bytes());
    let content = Bytes::from(format!("state of {round} {writer} {n}"));
    let state = ObjectHash::of(&content);
    let entries = (0..1 + rng.next(20))
        .map(|i| {
            let mut random = [0; 10];
            random[..8].copy_from_slice(&(writer << 40 | n << 8 | i).to_be_bytes());
            let request_id = RequestId::new((round << 20 | rng.next(60_000)) as i64, random);
            let record = DecisionRecord {
                request_id: Bytes::copy_from_slice(&request_id.0),
                uid: Bytes::copy_from_slice(&uid),
                seed: rng.next(u64::MAX),
                state: Bytes::copy_from_slice(&state.0),
                ..Default::default()
            };
            DecisionEntry { request_id, uid: Uid(uid), record: record.encode_to_vec().into() }
        })
        .collect();
    (Uid(uid), entries, (state, content))
}

/// The process that is killed. Erases every third visitor again.
#[test]
fn appender() {
    let Some((dir, round)) = told() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Arc::new(EmbeddedDecisionLog::open(&dir).unwrap());
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let log = log.clone();
            writers.spawn(async move {
                for n in 0.. {
                    let (uid, entries, object) = call(round, writer, n);
                    log.append(entries, vec![object]).await.unwrap();
                    acknowledge([writer, n, APPENDED]);
                    if n % 3 == 0 {
                        log.erase_user(uid).await.unwrap();
                        acknowledge([writer, n, ERASED]);
                    }
                }
            });
        }
        writers.join_all().await;
    });
}

/// What stands of a call; all of it does, or nothing.
async fn standing(log: &EmbeddedDecisionLog, (round, writer, n): (u64, u64, u64)) -> u64 {
    let (_, entries, (state, content)) = call(round, writer, n);
    let mut found = Vec::new();
    for entry in &entries {
        found.push(log.get(entry.request_id).await.unwrap());
    }
    let whole: Vec<_> = entries.iter().map(|e| Decision::Found(e.record.clone())).collect();
    let done = match found {
        found if found == whole => APPENDED,
        found if found.iter().all(|d| *d == Decision::Erased) => ERASED,
        found if found.iter().all(|d| *d == Decision::Unknown) => NOTHING,
        torn => panic!("call {round} {writer} {n} is torn: {torn:?}"),
    };
    let expected = (done == APPENDED).then_some(content);
    assert_eq!(log.object(state).await.unwrap(), expected, "call {round} {writer} {n}: {done}");
    done
}

#[tokio::test]
async fn decisions_that_were_acknowledged_survive_being_killed() {
    let mut rng = Rng::seeded();
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut records) = (0, 0);
    let mut calls = BTreeMap::new();
    for round in 0..ROUNDS {
        let after = Duration::from_millis(rng.next(150));
        let acks = run_and_kill("decisions::appender", dir.path(), round, after);
        acknowledged += acks.len();
        let mut told = BTreeMap::new();
        for (writer, n, done) in acks {
            let last = told.entry((round, writer, n)).or_insert(done);
            *last = done.max(*last);
        }
        // Two more calls of each writer may stand: one whose acknowledgement was cut off, and the one after it.
        for writer in 0..WRITERS {
            let next = told.range((round, writer, 0)..(round, writer + 1, 0)).next_back();
            let next = next.map_or(0, |((_, _, n), _)| n + 1);
            told.extend([next, next + 1].map(|n| ((round, writer, n), NOTHING)));
        }
        let log = EmbeddedDecisionLog::open(dir.path()).unwrap();
        for (at, told) in told {
            let done = standing(&log, at).await;
            assert!(done >= told, "call {at:?}: {done}, and acknowledged {told}");
            records += if done == APPENDED { call(at.0, at.1, at.2).1.len() } else { 0 };
            calls.insert(at, done);
        }
        assert_eq!(log.recent(usize::MAX).await.unwrap().len(), records, "round {round}");
    }
    let log = EmbeddedDecisionLog::open(dir.path()).unwrap();
    for (at, done) in calls {
        assert_eq!(standing(&log, at).await, done, "call {at:?}");
        if done == NOTHING {
            continue;
        }
        // Nothing is stored twice, and nothing comes back.
        let (_, entries, _) = call(at.0, at.1, at.2);
        log.append(entries, vec![]).await.unwrap();
        assert_eq!(standing(&log, at).await, done, "call {at:?}");
    }
    assert_eq!(log.recent(usize::MAX).await.unwrap().len(), records);
    println!("{ROUNDS} rounds, {acknowledged} acknowledgements, {records} records");
    assert!(acknowledged as u64 >= ROUNDS);
}
