use crate::backends::Time;
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
    retention_takes_old_records_and_what_only_they_name,
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
    let record = DecisionRecord {
        now: at,
        state: name(state),
        candidates: name(candidates),
        ..Default::default()
    };
    DecisionEntry {
        request_id: id(at),
        uid: Uid([user; 17]),
        record: record.encode_to_vec().into(),
    }
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
    let entries =
        vec![entry(1, 1, "mine", "set"), entry(2, 1, "mine", "set"), entry(3, 2, "yours", "set")];
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

async fn retention_takes_old_records_and_what_only_they_name(log: Log, _: &Time) {
    let entries =
        vec![entry(100, 1, "old", "set"), entry(199, 2, "old", "set"), entry(200, 1, "new", "set")];
    log.append(entries, vec![object("old"), object("new"), object("set")]).await.unwrap();
    log.append(vec![entry(150, 9, "x", "y")], vec![]).await.unwrap();
    log.erase_user(Uid([9; 17])).await.unwrap();
    assert_eq!(log.retain_from(-5).await.unwrap(), 0);
    assert_eq!(log.retain_from(200).await.unwrap(), 2, "an erased one does not count");
    for at in [100, 150, 199] {
        assert_eq!(log.get(id(at)).await.unwrap(), Decision::Unknown, "{at}");
    }
    assert!(matches!(log.get(id(200)).await.unwrap(), Decision::Found(_)));
    assert!(!has(&log, "old").await && has(&log, "new").await && has(&log, "set").await);
    assert_eq!(log.erase_user(Uid([1; 17])).await.unwrap(), 1, "the visitor's list follows");
    assert!(!has(&log, "set").await);
}

async fn objects_that_nothing_ever_named_go_the_second_time(log: Log, _: &Time) {
    log.append(
        vec![entry(300, 1, "state", "set")],
        vec![object("set"), object("stray"), object("early")],
    )
    .await
    .unwrap();
    log.retain_from(10).await.unwrap();
    assert!(has(&log, "stray").await && has(&log, "early").await);
    log.append(vec![entry(301, 1, "early", "set")], vec![]).await.unwrap();
    log.retain_from(10).await.unwrap();
    assert!(!has(&log, "stray").await && has(&log, "early").await && has(&log, "set").await);
}

async fn bad_input_changes_nothing(log: Log, _: &Time) {
    let not_a_record =
        DecisionEntry { record: Bytes::from_static(b"\xff\xff"), ..entry(2, 1, "s", "set") };
    let short = DecisionRecord { own: Bytes::from_static(b"short"), ..Default::default() };
    let short_name =
        DecisionEntry { record: short.encode_to_vec().into(), ..entry(2, 1, "s", "set") };
    let cases = [
        (vec![entry(1, 1, "s", "set"), not_a_record], vec![object("s")], "entries[1]"),
        (vec![entry(1, 1, "s", "set"), short_name], vec![object("s")], "entries[1].own"),
        (
            vec![entry(1, 1, "s", "set")],
            vec![object("s"), (object("s").0, Bytes::from_static(b"t"))],
            "objects[1]",
        ),
    ];
    for (entries, objects, expected) in cases {
        let refused = log.append(entries, objects).await.unwrap_err();
        assert!(
            matches!(&refused, StorageError::Invalid { field, .. } if field == expected),
            "{refused:?}"
        );
    }
    assert_eq!(log.get(id(1)).await.unwrap(), Decision::Unknown);
    assert!(!has(&log, "s").await);
}
