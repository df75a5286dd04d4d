use crate::backends::Time;
use attune_proto::state::v1 as wire;
use attune_storage::{Appended, Bounds, DedupKey, EventLog, KeyErasure, MAX_RECORD_BYTES, Record, StorageError, Topic};
use bytes::Bytes;
use prost::Message as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(30);

type Log = Arc<dyn EventLog>;

crate::suite!(event_log:
    offsets_are_dense_and_records_come_back,
    duplicates_keep_the_first_offset,
    a_duplicate_is_of_its_day_and_topic,
    forgotten_days_are_forgotten_and_others_are_not,
    reads_wait_for_the_first_record,
    reads_are_bounded,
    concurrent_appends_lose_and_mix_nothing,
    oversized_records_change_nothing,
    a_time_finds_the_first_record_from_then_on,
    => memory, embedded, remote, kafka);

mod emptying {
    use super::an_erased_key_leaves_empty_records;

    crate::suite!(event_log: an_erased_key_leaves_empty_records => memory, embedded, remote);
}

async fn an_erased_key_leaves_empty_records(log: Log, _: &Time) {
    let records = ["a", "b", "a", "a"].map(|key| (record(key, key.to_owned()), None)).into();
    log.append(Topic::UserEvents, records).await.unwrap();
    let erased = log.erase_key(Topic::UserEvents, Bytes::from_static(b"a"), 3).await.unwrap();
    assert_eq!(erased, KeyErasure::Emptied(2));
    let keys: Vec<_> = log
        .read(Topic::UserEvents, 0, 10, NOW)
        .await
        .unwrap()
        .into_iter()
        .map(|(at, r)| (at, r.key, r.value))
        .collect();
    let b = |text: &'static str| Bytes::from_static(text.as_bytes());
    assert_eq!(keys, [(0, b(""), b("")), (1, b("b"), b("b")), (2, b(""), b("")), (3, b("a"), b("a"))]);
    assert_eq!(log.erase_key(Topic::UserEvents, Bytes::from_static(b"a"), 3).await.unwrap(), KeyErasure::Emptied(0));
}

fn record(key: &str, value: impl Into<Bytes>) -> Record {
    Record { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into(), traceparent: format!("00-{key}") }
}

fn named(day: i64, identity: &'static str) -> Option<DedupKey> {
    Some(DedupKey { day, identity: Bytes::from_static(identity.as_bytes()) })
}

async fn end(log: &Log, topic: Topic) -> u64 {
    log.bounds(topic).await.unwrap().end
}

async fn offsets_are_dense_and_records_come_back(log: Log, _: &Time) {
    assert_eq!(log.bounds(Topic::UserEvents).await.unwrap(), Bounds { start: 0, end: 0 });
    assert_eq!(log.append(Topic::UserEvents, vec![]).await.unwrap(), []);
    let mut expected = Vec::new();
    for i in 0..20u64 {
        let batch: Vec<_> = (0..=i % 3).map(|j| record(&format!("k{i}"), vec![i as u8; j as usize])).collect();
        let offsets = log.append(Topic::UserEvents, batch.iter().cloned().map(|r| (r, None)).collect()).await.unwrap();
        for (appended, record) in offsets.into_iter().zip(batch) {
            assert_eq!(appended, Appended::New(expected.len() as u64));
            expected.push((appended.offset(), record));
        }
    }
    assert_eq!(log.read(Topic::UserEvents, 0, 1000, NOW).await.unwrap(), expected);
    assert_eq!(log.read(Topic::UserEvents, 7, 5, NOW).await.unwrap(), expected[7..12]);
    assert_eq!(log.bounds(Topic::UserEvents).await.unwrap(), Bounds { start: 0, end: expected.len() as u64 });
    assert_eq!(end(&log, Topic::ItemUpdates).await, 0, "topics are apart");
    assert_eq!(log.read(Topic::UserEvents, expected.len() as u64 + 9, 5, NOW).await.unwrap(), [], "past the end");
}

async fn duplicates_keep_the_first_offset(log: Log, _: &Time) {
    let first = log.append(
        Topic::UserEvents,
        vec![
            (record("a", "1"), named(5, "x")),
            (record("a", "2"), named(5, "y")),
            (record("a", "3"), named(5, "x")),
            (record("a", "4"), None),
        ],
    );
    assert_eq!(
        first.await.unwrap(),
        [Appended::New(0), Appended::New(1), Appended::Duplicate(0), Appended::New(2)],
        "one of the same batch is a duplicate too"
    );
    let again = log.append(Topic::UserEvents, vec![(record("a", "5"), named(5, "y")), (record("a", "6"), None)]);
    assert_eq!(again.await.unwrap(), [Appended::Duplicate(1), Appended::New(3)]);
    let values: Vec<_> =
        log.read(Topic::UserEvents, 0, 10, NOW).await.unwrap().into_iter().map(|(_, r)| r.value).collect();
    assert_eq!(values, ["1", "2", "4", "6"]);
}

async fn a_duplicate_is_of_its_day_and_topic(log: Log, _: &Time) {
    for (topic, day) in
        [(Topic::UserEvents, 5), (Topic::UserEvents, 6), (Topic::UserEvents, -1), (Topic::UserUpdates, 5)]
    {
        let appended = log.append(topic, vec![(record("a", "1"), named(day, "x"))]).await.unwrap();
        assert!(matches!(appended[..], [Appended::New(_)]), "{topic:?} {day}");
    }
}

async fn forgotten_days_are_forgotten_and_others_are_not(log: Log, _: &Time) {
    for day in [-3, 9, 10, 11] {
        log.append(Topic::UserEvents, vec![(record("a", "1"), named(day, "x"))]).await.unwrap();
    }
    log.forget_dedup_before(10).await.unwrap();
    for (day, forgotten) in [(-3, true), (9, true), (10, false), (11, false)] {
        let appended = log.append(Topic::UserEvents, vec![(record("a", "2"), named(day, "x"))]).await.unwrap();
        assert_eq!(matches!(appended[..], [Appended::New(_)]), forgotten, "day {day}");
    }
    assert_eq!(log.read(Topic::UserEvents, 0, 10, NOW).await.unwrap().len(), 6, "records stay");
}

async fn reads_wait_for_the_first_record(log: Log, _: &Time) {
    assert_eq!(log.read(Topic::UserEvents, 0, 10, Duration::from_millis(5)).await.unwrap(), []);
    let reader = tokio::spawn({
        let log = log.clone();
        async move { log.read(Topic::UserEvents, 1, 10, LONG).await.unwrap() }
    });
    tokio::task::yield_now().await;
    log.append(Topic::UserEvents, vec![(record("a", "0"), None)]).await.unwrap();
    log.append(Topic::UserEvents, vec![(record("a", "1"), None)]).await.unwrap();
    assert_eq!(reader.await.unwrap(), [(1, record("a", "1"))]);
}

async fn reads_are_bounded(log: Log, _: &Time) {
    let large = vec![7u8; MAX_RECORD_BYTES - 64];
    for _ in 0..6 {
        log.append(Topic::UserEvents, vec![(record("a", large.clone()), None)]).await.unwrap();
    }
    assert_eq!(log.read(Topic::UserEvents, 0, 0, NOW).await.unwrap(), []);
    let mut from = 0;
    let mut reads = 0;
    while from < 6 {
        let found = log.read(Topic::UserEvents, from, 100, NOW).await.unwrap();
        assert!(!found.is_empty() && found.len() < 6);
        assert_eq!(found[0].0, from);
        from += found.len() as u64;
        reads += 1;
    }
    assert_eq!(reads, 2);
}

async fn concurrent_appends_lose_and_mix_nothing(log: Log, _: &Time) {
    let writers: Vec<_> = (0..16u8)
        .map(|w| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut offsets = Vec::new();
                for n in 0..20u8 {
                    let batch = (0..5u8).map(|i| (record("k", vec![w, n, i]), None)).collect();
                    let answer = log.append(Topic::UserEvents, batch).await.unwrap();
                    let from = answer[0].offset();
                    assert_eq!(
                        answer,
                        (from..from + 5).map(Appended::New).collect::<Vec<_>>(),
                        "a call stays together"
                    );
                    offsets.push((from, n));
                }
                assert!(offsets.is_sorted(), "calls of one writer keep their order");
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let found = log.read(Topic::UserEvents, 0, 10_000, NOW).await.unwrap();
    assert!(found.iter().map(|(at, _)| *at).eq(0..1600));
    assert_eq!(found.iter().map(|(_, r)| r.value.clone()).collect::<BTreeSet<_>>().len(), 1600);
    for call in found.chunks(5) {
        assert!(call.iter().zip(0..).all(|((_, r), i)| r.value[..2] == call[0].1.value[..2] && r.value[2] == i));
    }
}

async fn oversized_records_change_nothing(log: Log, _: &Time) {
    let batch = vec![(record("a", "1"), named(1, "x")), (record("a", vec![0; MAX_RECORD_BYTES]), None)];
    let refused = log.append(Topic::UserEvents, batch).await.unwrap_err();
    assert!(matches!(&refused, StorageError::Invalid { field, .. } if field == "records[1]"), "{refused:?}");
    assert!(!refused.is_retryable());
    let many = (0..9).map(|_| (record("a", vec![0; MAX_RECORD_BYTES - 64]), None)).collect();
    let refused = log.append(Topic::UserEvents, many).await.unwrap_err();
    assert!(matches!(&refused, StorageError::Invalid { field, .. } if field == "records"), "{refused:?}");
    assert_eq!(end(&log, Topic::UserEvents).await, 0);
    let after = log.append(Topic::UserEvents, vec![(record("a", "1"), named(1, "x"))]).await.unwrap();
    assert_eq!(after, [Appended::New(0)], "the refused batch left no identity behind");
}

/// Accepted now, by the clock that an engine has.
#[expect(clippy::disallowed_methods, reason = "an engine's clock cannot be chosen")]
fn accepted_now() -> (i64, Record) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let accepted_at = since.as_millis() as i64;
    let event = wire::user_record::Record::Event(wire::Event { accepted_at, ..Default::default() });
    let value = wire::UserRecord { uid: Bytes::new(), record: Some(event), schema: 0 }.encode_to_vec();
    (accepted_at, record("k", value))
}

async fn a_time_finds_the_first_record_from_then_on(log: Log, _: &Time) {
    const PAUSE: Duration = Duration::from_millis(40);
    let topic = Topic::UserEvents;
    assert_eq!(log.offset_at(topic, 0, 1).await.unwrap(), 0, "of nothing");
    let mut times = Vec::new();
    for _ in 0..9 {
        let (accepted, record) = accepted_now();
        log.append(topic, vec![(record, None)]).await.unwrap();
        times.push(accepted);
        tokio::time::sleep(PAUSE).await;
    }
    for (offset, &time) in times.iter().enumerate() {
        let between = time - PAUSE.as_millis() as i64 / 2;
        assert_eq!(log.offset_at(topic, 0, between).await.unwrap(), offset as u64, "{times:?}");
    }
    assert_eq!(log.offset_at(topic, 0, i64::MIN).await.unwrap(), 0);
    assert_eq!(log.offset_at(topic, 0, times[8] + 10_000).await.unwrap(), 9, "later than all");
    let refused = log.offset_at(topic, 1, 0).await.unwrap_err();
    assert!(matches!(&refused, StorageError::Invalid { field, .. } if field == "partition"), "{refused:?}");
    let refused = log.offset_at(Topic::ItemUpdates, 0, 0).await.unwrap_err();
    assert!(matches!(&refused, StorageError::Invalid { field, .. } if field == "topic"), "{refused:?}");
}
