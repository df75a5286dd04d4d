use crate::backends::{DAY, Time};
use attune_domain::{RequestId, Uid};
use attune_proto::decision::v1::DecisionRecord;
use attune_storage::{Decision, DecisionEntry, DecisionLog, ObjectHash, StorageError};
use bytes::Bytes;
use prost::Message as _;
use std::sync::Arc;

type Log = Arc<dyn DecisionLog>;

crate::suite!(decision_log:
    records_and_objects_come_back,
    a_record_once_written_stays,
    recent_is_newest_first,
    erasing_takes_the_visitors_records_and_what_only_they_name,
    an_erased_record_is_not_brought_back,
    retention_takes_old_records_and_what_was_last_named_before,
    an_object_lives_through_the_last_day_it_is_named,
    an_object_of_two_visitors_outlives_either,
    erasing_leaves_others_in_the_same_write_alone,
    late_records_take_their_place,
    appends_may_interleave_in_time,
    many_records_of_one_moment_are_found,
    request_ids_may_be_nearly_alike,
    repeated_records_are_stored_once,
    the_clock_may_jump,
    objects_that_nothing_ever_named_go_the_second_time,
    bad_input_changes_nothing,
    => memory, embedded);

fn id(at: i64) -> RequestId {
    RequestId::new(at, [at as u8; 10])
}

fn object(text: &str) -> (ObjectHash, Bytes) {
    (ObjectHash::of(text.as_bytes()), Bytes::copy_from_slice(text.as_bytes()))
}

fn name(text: &str) -> Bytes {
    Bytes::copy_from_slice(&ObjectHash::of(text.as_bytes()).0)
}

/// A hit that names the visitor's state and a shared candidate set.
fn entry(at: i64, user: u8, state: &str, candidates: &str) -> DecisionEntry {
    let record = DecisionRecord { now: at, state: name(state), candidates: name(candidates), ..Default::default() };
    DecisionEntry { request_id: id(at), uid: Uid([user; 17]), record: record.encode_to_vec().into() }
}

async fn has(log: &Log, text: &str) -> bool {
    let found = log.object(ObjectHash::of(text.as_bytes())).await.unwrap();
    assert!(found.is_none() || found == Some(object(text).1));
    found.is_some()
}

async fn records_and_objects_come_back(log: Log, _: &Time) {
    let entries = vec![entry(5, 1, "s1", "set"), entry(6, 2, "s2", "set")];
    log.append(entries.clone(), vec![object("s1"), object("set")]).await.unwrap();
    for entry in entries {
        assert_eq!(log.get(entry.request_id).await.unwrap(), Decision::Found(entry.record));
    }
    assert_eq!(log.get(id(7)).await.unwrap(), Decision::Unknown);
    assert!(has(&log, "s1").await && has(&log, "set").await && !has(&log, "s2").await);
    log.append(vec![], vec![]).await.unwrap();
}

async fn a_record_once_written_stays(log: Log, _: &Time) {
    let first = entry(5, 1, "a", "set");
    log.append(vec![first.clone(), entry(5, 1, "b", "set")], vec![object("a")]).await.unwrap();
    log.append(vec![entry(5, 2, "c", "set")], vec![object("a")]).await.unwrap();
    assert_eq!(log.get(id(5)).await.unwrap(), Decision::Found(first.record));
    assert_eq!(log.erase_user(Uid([2; 17])).await.unwrap(), 0);
}

async fn recent_is_newest_first(log: Log, _: &Time) {
    for at in [50, 10, 90, 30] {
        log.append(vec![entry(at, at as u8, "s", "set")], vec![]).await.unwrap();
    }
    log.erase_user(Uid([50; 17])).await.unwrap();
    assert_eq!(log.recent(10).await.unwrap(), [90, 30, 10].map(id));
    assert_eq!(log.recent(2).await.unwrap(), [90, 30].map(id));
    assert_eq!(log.recent(0).await.unwrap(), []);
}

async fn erasing_takes_the_visitors_records_and_what_only_they_name(log: Log, _: &Time) {
    let entries = vec![entry(1, 1, "mine", "set"), entry(2, 1, "mine", "set"), entry(3, 2, "yours", "set")];
    log.append(entries, vec![object("mine"), object("yours"), object("set")]).await.unwrap();
    assert_eq!(log.erase_user(Uid([1; 17])).await.unwrap(), 2);
    assert_eq!(log.get(id(1)).await.unwrap(), Decision::Erased);
    assert_eq!(log.get(id(2)).await.unwrap(), Decision::Erased);
    assert!(matches!(log.get(id(3)).await.unwrap(), Decision::Found(_)));
    assert!(!has(&log, "mine").await && has(&log, "yours").await && has(&log, "set").await);
    assert_eq!(log.erase_user(Uid([1; 17])).await.unwrap(), 0, "nothing is left");
}

async fn an_erased_record_is_not_brought_back(log: Log, _: &Time) {
    log.append(vec![entry(1, 1, "s", "set")], vec![]).await.unwrap();
    log.erase_user(Uid([1; 17])).await.unwrap();
    log.append(vec![entry(1, 1, "s", "set")], vec![]).await.unwrap();
    assert_eq!(log.get(id(1)).await.unwrap(), Decision::Erased);
}

async fn retention_takes_old_records_and_what_was_last_named_before(log: Log, _: &Time) {
    let entries =
        vec![entry(DAY + 100, 1, "old", "set"), entry(2 * DAY - 1, 2, "old", "set"), entry(2 * DAY, 1, "new", "set")];
    log.append(entries, vec![object("old"), object("new"), object("set")]).await.unwrap();
    log.append(vec![entry(DAY + 150, 9, "x", "y")], vec![]).await.unwrap();
    log.erase_user(Uid([9; 17])).await.unwrap();
    assert_eq!(log.retain_from(-5).await.unwrap(), 0);
    assert_eq!(log.retain_from(2 * DAY).await.unwrap(), 2, "an erased one does not count");
    for at in [DAY + 100, DAY + 150, 2 * DAY - 1] {
        assert_eq!(log.get(id(at)).await.unwrap(), Decision::Unknown, "{at}");
    }
    assert!(matches!(log.get(id(2 * DAY)).await.unwrap(), Decision::Found(_)));
    assert!(!has(&log, "old").await && has(&log, "new").await && has(&log, "set").await);
    assert_eq!(log.erase_user(Uid([1; 17])).await.unwrap(), 1, "the visitor's list follows");
    assert!(!has(&log, "new").await);
    log.append(vec![entry(DAY + 100, 1, "again", "set")], vec![]).await.unwrap();
    assert!(matches!(log.get(id(DAY + 100)).await.unwrap(), Decision::Found(_)), "it was not erased");
    assert_eq!(log.retain_from(i64::MAX).await.unwrap(), 1);
    assert!(!has(&log, "set").await);
    assert_eq!(log.recent(9).await.unwrap(), []);
}

async fn an_object_lives_through_the_last_day_it_is_named(log: Log, _: &Time) {
    log.append(vec![entry(DAY, 1, "s", "set")], vec![object("s")]).await.unwrap();
    log.append(vec![entry(3 * DAY + 500, 1, "s", "set")], vec![]).await.unwrap();
    log.append(vec![entry(2 * DAY, 1, "s", "set")], vec![object("s")]).await.unwrap();
    for (before, dropped) in [(2 * DAY, 1), (3 * DAY, 1), (3 * DAY + 501, 1), (4 * DAY - 1, 0)] {
        assert_eq!(log.retain_from(before).await.unwrap(), dropped, "{before}");
        assert!(has(&log, "s").await, "{before}");
    }
    assert_eq!(log.retain_from(4 * DAY).await.unwrap(), 0);
    assert!(!has(&log, "s").await);
    log.append(vec![entry(4 * DAY, 1, "s", "set")], vec![object("s")]).await.unwrap();
    assert!(has(&log, "s").await, "it may come again");
}

async fn an_object_of_two_visitors_outlives_either(log: Log, _: &Time) {
    let objects = vec![object("empty"), object("hers"), object("set")];
    log.append(vec![entry(1, 1, "empty", "set"), entry(2, 1, "hers", "set")], objects).await.unwrap();
    log.append(vec![entry(3, 2, "empty", "set")], vec![]).await.unwrap();
    assert_eq!(log.erase_user(Uid([1; 17])).await.unwrap(), 2);
    assert!(has(&log, "empty").await && has(&log, "set").await && !has(&log, "hers").await);
    log.append(vec![entry(4, 1, "hers", "set")], vec![object("hers")]).await.unwrap();
    assert!(has(&log, "hers").await, "a visitor may come back");
    assert_eq!(log.erase_user(Uid([2; 17])).await.unwrap(), 1);
    assert!(has(&log, "empty").await && has(&log, "set").await);
    assert_eq!(log.retain_from(DAY).await.unwrap(), 1);
    assert!(!has(&log, "empty").await && !has(&log, "set").await && !has(&log, "hers").await);
}

async fn erasing_leaves_others_in_the_same_write_alone(log: Log, _: &Time) {
    let entries: Vec<_> = (0..60).map(|at| entry(at, 1 + at as u8 % 3, "s", "set")).collect();
    log.append(entries.clone(), vec![]).await.unwrap();
    for (user, left) in [(2, 40), (1, 20)] {
        assert_eq!(log.erase_user(Uid([user; 17])).await.unwrap(), 20);
        log.append(entries.clone(), vec![]).await.unwrap();
        assert_eq!(log.recent(99).await.unwrap().len(), left, "what was erased does not come back");
    }
    for entry in entries {
        let expected = if entry.uid.0[0] == 3 { Decision::Found(entry.record) } else { Decision::Erased };
        assert_eq!(log.get(entry.request_id).await.unwrap(), expected);
    }
    assert_eq!(log.retain_from(30).await.unwrap(), 10);
    assert_eq!(log.get(id(28)).await.unwrap(), Decision::Unknown);
    assert_eq!(log.get(id(31)).await.unwrap(), Decision::Erased);
    assert_eq!(log.erase_user(Uid([3; 17])).await.unwrap(), 10);
}

async fn late_records_take_their_place(log: Log, _: &Time) {
    let minute = 60_000;
    let times = [90 * minute, 89 * minute, 90 * minute + 3, 5 * minute, 90 * minute + 1, 5 * minute + 1];
    for at in times {
        log.append(vec![entry(at, 1, "s", "set")], vec![]).await.unwrap();
    }
    let mixed: Vec<_> = [91 * minute, 7, 30 * minute].map(|at| entry(at, 1, "s", "set")).into();
    log.append(mixed, vec![]).await.unwrap();
    let mut all = [&times[..], &[91 * minute, 7, 30 * minute]].concat();
    for &at in &all {
        assert_eq!(log.get(id(at)).await.unwrap(), Decision::Found(entry(at, 1, "s", "set").record));
    }
    all.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(log.recent(99).await.unwrap(), all.iter().map(|&at| id(at)).collect::<Vec<_>>());
    assert_eq!(log.retain_from(90 * minute).await.unwrap(), 5);
}

async fn appends_may_interleave_in_time(log: Log, _: &Time) {
    let edges = (0..4i64).map(|edge| {
        let log = log.clone();
        async move {
            for first in (0..1000).step_by(100) {
                let entries = (first..first + 100).map(|n| entry(4 * n + edge, edge as u8, "s", "set"));
                log.append(entries.collect(), vec![object("s")]).await.unwrap();
            }
        }
    });
    let mut running = tokio::task::JoinSet::new();
    edges.for_each(|edge| drop(running.spawn(edge)));
    running.join_all().await;
    let newest: Vec<_> = (0..4000).rev().map(id).collect();
    assert_eq!(log.recent(2_999).await.unwrap(), newest[..2_999]);
    for at in (0..4000).step_by(37) {
        assert!(matches!(log.get(id(at)).await.unwrap(), Decision::Found(_)), "{at}");
    }
    assert_eq!(log.erase_user(Uid([2; 17])).await.unwrap(), 1000);
    assert_eq!(log.retain_from(2001).await.unwrap(), 1501);
    assert_eq!(log.recent(1).await.unwrap(), [id(3999)]);
}

async fn many_records_of_one_moment_are_found(log: Log, _: &Time) {
    let entry = |n: u64, bytes: usize| {
        let record = DecisionRecord { seed: n, query: "q".repeat(bytes), ..Default::default() };
        let mut random = [0; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        random[8..].copy_from_slice(&(n as u16).to_be_bytes());
        let request_id = RequestId::new(1000 + n as i64 / 2_000, random);
        DecisionEntry { request_id, uid: Uid([n as u8; 17]), record: record.encode_to_vec().into() }
    };
    let mut entries: Vec<_> = (0..8_000).map(|n| entry(n, 200)).collect();
    entries.push(entry(9_000, 1_000_000));
    for step in entries.chunks(3_000) {
        log.append(step.to_vec(), vec![]).await.unwrap();
    }
    for entry in entries.iter().rev().step_by(97) {
        assert_eq!(log.get(entry.request_id).await.unwrap(), Decision::Found(entry.record.clone()));
    }
    let newest: Vec<_> = entries.iter().rev().map(|e| e.request_id).collect();
    assert_eq!(log.recent(9_999).await.unwrap(), newest);
    assert_eq!(log.erase_user(Uid([7; 17])).await.unwrap(), 32);
    assert_eq!(log.retain_from(1003).await.unwrap(), 6_000 - 24);
}

async fn request_ids_may_be_nearly_alike(log: Log, _: &Time) {
    let alike: Vec<_> = (0..20u8)
        .map(|n| {
            let mut random = [7; 10];
            random[n as usize / 8] = n;
            DecisionEntry { request_id: RequestId::new(900, random), ..entry(900, n, "s", "set") }
        })
        .collect();
    log.append(alike[..10].to_vec(), vec![]).await.unwrap();
    log.append(alike.clone(), vec![]).await.unwrap();
    for (n, one) in alike.iter().enumerate() {
        assert_eq!(log.erase_user(Uid([n as u8; 17])).await.unwrap(), 1);
        assert_eq!(log.get(one.request_id).await.unwrap(), Decision::Erased);
        assert_eq!(log.recent(99).await.unwrap().len(), 19 - n);
    }
}

async fn repeated_records_are_stored_once(log: Log, _: &Time) {
    let first: Vec<_> = (0..50).map(|n| entry(n * 20, 1, "a", "set")).collect();
    let other: Vec<_> = (0..50).map(|n| entry(n * 20, 2, "b", "set")).collect();
    let twice = [&first[..], &other[..]].concat();
    log.append(twice, vec![]).await.unwrap();
    let again = [other.clone(), other.clone(), first.clone()];
    let mut running = tokio::task::JoinSet::new();
    for entries in again {
        let log = log.clone();
        running.spawn(async move { log.append(entries, vec![]).await.unwrap() });
    }
    running.join_all().await;
    log.append([&other[..], &[entry(1_000, 2, "b", "set")]].concat(), vec![]).await.unwrap();
    assert_eq!(log.recent(999).await.unwrap().len(), 51);
    for entry in first {
        assert_eq!(log.get(entry.request_id).await.unwrap(), Decision::Found(entry.record));
    }
    assert_eq!(log.erase_user(Uid([2; 17])).await.unwrap(), 1);
    log.append(other, vec![]).await.unwrap();
    assert_eq!(log.erase_user(Uid([1; 17])).await.unwrap(), 50);
}

async fn the_clock_may_jump(log: Log, _: &Time) {
    let far = (1 << 48) - 1;
    for at in [1000, far, 1001, 0, far - DAY, 1002] {
        log.append(vec![entry(at, 1, "s", "set")], vec![object("s")]).await.unwrap();
    }
    assert_eq!(log.recent(9).await.unwrap(), [far, far - DAY, 1002, 1001, 1000, 0].map(id));
    assert_eq!(log.retain_from(1001).await.unwrap(), 2);
    assert_eq!(log.retain_from(far).await.unwrap(), 3);
    assert!(matches!(log.get(id(far)).await.unwrap(), Decision::Found(_)));
    assert!(has(&log, "s").await);
    log.append(vec![entry(1001, 1, "s", "set")], vec![]).await.unwrap();
    assert_eq!(log.recent(9).await.unwrap(), [far, 1001].map(id));
}

async fn objects_that_nothing_ever_named_go_the_second_time(log: Log, _: &Time) {
    log.append(vec![entry(300, 1, "state", "set")], vec![object("set"), object("stray"), object("early")])
        .await
        .unwrap();
    log.retain_from(10).await.unwrap();
    assert!(has(&log, "stray").await && has(&log, "early").await);
    log.append(vec![entry(301, 1, "early", "set")], vec![]).await.unwrap();
    log.retain_from(10).await.unwrap();
    assert!(!has(&log, "stray").await && has(&log, "early").await && has(&log, "set").await);
}

async fn bad_input_changes_nothing(log: Log, _: &Time) {
    let not_a_record = DecisionEntry { record: Bytes::from_static(b"\xff\xff"), ..entry(2, 1, "s", "set") };
    let short = DecisionRecord { own: Bytes::from_static(b"short"), ..Default::default() };
    let short_name = DecisionEntry { record: short.encode_to_vec().into(), ..entry(2, 1, "s", "set") };
    let cases = [
        (vec![entry(1, 1, "s", "set"), not_a_record], vec![object("s")], "entries[1]"),
        (vec![entry(1, 1, "s", "set"), short_name], vec![object("s")], "entries[1].own"),
        (vec![entry(1, 1, "s", "set")], vec![object("s"), (object("s").0, Bytes::from_static(b"t"))], "objects[1]"),
    ];
    for (entries, objects, expected) in cases {
        let refused = log.append(entries, objects).await.unwrap_err();
        assert!(matches!(&refused, StorageError::Invalid { field, .. } if field == expected), "{refused:?}");
    }
    assert_eq!(log.get(id(1)).await.unwrap(), Decision::Unknown);
    assert!(!has(&log, "s").await);
}
