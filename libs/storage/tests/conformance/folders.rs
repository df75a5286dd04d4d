//! What only folders have: owners, formats, and contents that outlive the process.

use crate::backends::{DAY, START, Time};
use attune_domain::{ItemIx, RequestId, StateVersion, Uid, UserState};
use attune_proto::decision::v1::DecisionRecord;
use attune_storage::*;
use bytes::Bytes;
use prost::Message as _;
use std::time::Duration;

fn record(n: u64) -> (Record, Option<DedupKey>) {
    let value = Bytes::copy_from_slice(&n.to_be_bytes());
    let identity = Some(DedupKey { day: 1, identity: value.clone() });
    (Record { key: Bytes::new(), value, traceparent: String::new() }, identity)
}

#[tokio::test]
async fn a_log_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3u64 {
        let log = EmbeddedEventLog::open(dir.path()).unwrap();
        let again = log.append(Topic::UserEvents, (0..round * 10).map(record).collect()).await.unwrap();
        assert!(again.iter().zip(0..).all(|(a, n)| *a == Appended::Duplicate(n)), "dedup outlives the process");
        let fresh = log.append(Topic::UserEvents, (round * 10..round * 10 + 10).map(record).collect()).await.unwrap();
        assert!(fresh.iter().zip(round * 10..).all(|(a, n)| *a == Appended::New(n)));
        let found = log.read(Topic::UserEvents, 0, 1000, Duration::ZERO).await.unwrap();
        assert_eq!(found, (0..round * 10 + 10).map(|n| (n, record(n).0)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn features_outlive_the_process_and_adopt_a_new_half_life() {
    let (dir, time) = (tempfile::tempdir().unwrap(), Time::new());
    let uid = Uid([3; 17]);
    let state = UserState { version: StateVersion { epoch: 0, next_offset: 4 }, ..Default::default() };
    {
        let store = EmbeddedFeatureStore::open(dir.path(), time.options()).unwrap();
        let evidence = PosteriorChange { item: ItemIx(7), at: START, impressions: 4.0, rewards: 1.0 };
        store
            .apply(EffectBatch {
                consumer: USER_EVENTS_CONSUMER,
                next_offset: 4,
                users: vec![(uid, state.clone())],
                posteriors: vec![evidence],
                erased: vec![(Uid([4; 17]), 2)],
                ..Default::default()
            })
            .await
            .unwrap();
    }
    time.set(START + DAY);
    let slower = FeatureOptions { half_life: Duration::from_secs(7 * 86_400), ..time.options() };
    for (days, impressions) in [(1, 2.0), (8, 1.0), (15, 0.5)] {
        time.set(START + days * DAY);
        let store = EmbeddedFeatureStore::open(dir.path(), slower.clone()).unwrap();
        assert_eq!(store.load_users(&[uid]).await.unwrap(), std::slice::from_ref(&state));
        assert_eq!(store.user_count().await.unwrap(), 1);
        assert_eq!(store.fences(&[Uid([4; 17])]).await.unwrap(), [Some(2)]);
        let snapshot = store.posteriors().await.unwrap();
        assert!((snapshot.counts[0].impressions - impressions).abs() < 1e-5, "{snapshot:?}");
    }
}

#[tokio::test]
async fn decisions_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let object = |n: u8| (ObjectHash::of(&[n]), Bytes::copy_from_slice(&[n]));
    // All in one slot of time; record `n` is of visitor `n` and names object `n`.
    let entry = |n: u8| {
        let state = Bytes::copy_from_slice(&object(n).0.0);
        let record = DecisionRecord { limit: n.into(), state, ..Default::default() };
        let request_id = RequestId::new(START, [n; 10]);
        DecisionEntry { request_id, uid: Uid([n; 17]), record: record.encode_to_vec().into() }
    };
    for round in 0..6 {
        let log = EmbeddedDecisionLog::open(dir.path()).unwrap();
        let again = (0..round).map(entry).collect();
        log.append(again, (0..round).filter(|n| n % 3 != 1).map(object).collect()).await.unwrap();
        log.append(vec![entry(round)], vec![object(round)]).await.unwrap();
        if round % 3 == 1 {
            assert_eq!(log.erase_user(Uid([round; 17])).await.unwrap(), 1);
        }
        drop(log);
        let log = EmbeddedDecisionLog::open(dir.path()).unwrap();
        for n in 0..=round {
            let (found, content) = match n % 3 {
                1 => (Decision::Erased, None),
                _ => (Decision::Found(entry(n).record), Some(object(n).1)),
            };
            assert_eq!(log.get(entry(n).request_id).await.unwrap(), found, "{n} of {round}");
            assert_eq!(log.object(object(n).0).await.unwrap(), content, "{n} of {round}");
        }
        let live = (0..=round).filter(|n| n % 3 != 1).count();
        assert_eq!(log.recent(99).await.unwrap().len(), live);
    }
}

#[test]
fn a_folder_in_use_is_refused_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = EmbeddedEventLog::open(dir.path()).unwrap();
    let refused = EmbeddedEventLog::open(dir.path()).err();
    assert_eq!(refused, Some(StorageError::InUse { pid: std::process::id() }));
    drop(first);
    EmbeddedEventLog::open(dir.path()).unwrap();
}

#[test]
fn a_number_left_by_a_dead_owner_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("LOCK"), "1\n").unwrap();
    EmbeddedEventLog::open(dir.path()).unwrap();
}

#[test]
fn another_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for found in [1, 99] {
        std::fs::write(dir.path().join("FORMAT"), format!("{found}\n")).unwrap();
        let refused = EmbeddedDecisionLog::open(dir.path()).err();
        assert_eq!(refused, Some(StorageError::FormatVersion { found, supported: 2 }));
    }
    assert!(!dir.path().join("data").exists());
    std::fs::write(dir.path().join("FORMAT"), "what").unwrap();
    assert!(matches!(EmbeddedDecisionLog::open(dir.path()).err(), Some(StorageError::Corrupt { .. })));
}
