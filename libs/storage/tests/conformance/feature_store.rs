use crate::backends::{DAY, START, Time};
use attune_domain::{
    EventKey, EventKind, ItemIx, PosteriorSnapshot, RequestId, StateVersion, Uid, UserAttributes, UserState,
    WindowEvent,
};
use attune_storage::{
    EffectBatch, FeatureStore, OUTCOME_IMPRESSION, OUTCOME_REWARD, OutcomeKey, PosteriorChange, StorageError,
    USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER, first_offset,
};
use std::sync::Arc;
use std::time::Duration;

type Store = Arc<dyn FeatureStore>;

crate::suite!(feature_store:
    an_empty_store_knows_nobody,
    a_batch_is_stored_whole,
    a_batch_at_the_wrong_offset_changes_nothing,
    consumers_move_apart,
    waiting_ends_when_the_offset_is_applied,
    posteriors_decay_by_half_lives,
    erased_visitors_are_gone_and_fenced,
    outcomes_are_forgotten_by_day,
    visitors_are_counted_once,
    => memory, embedded, remote, redis);

/// What needs more partitions than one.
mod partitions {
    use super::partitions_move_apart_and_sum_up;

    crate::suite!(feature_store: partitions_move_apart_and_sum_up, => memory, embedded, remote, redis_of_four);
}

fn uid(n: u8) -> Uid {
    Uid([n; 17])
}

fn state(n: u32) -> UserState {
    let mut state = UserState {
        attributes: UserAttributes(vec![("age".into(), "30-39".into())]),
        version: StateVersion { epoch: 0, next_offset: n.into() },
        watermark: Some(START + i64::from(n)),
        ..Default::default()
    };
    for i in 0..n {
        state.window.insert(WindowEvent {
            occurred_at: START + i64::from(i) * 777,
            key: EventKey(u64::from(i) << 33),
            item: ItemIx(i * 31 % 97),
            kind: EventKind::Click,
            value: 1.5,
        });
    }
    state
}

fn outcome(day: i64, item: u32) -> OutcomeKey {
    OutcomeKey { day, request: RequestId::new(START, [item as u8; 10]), item: ItemIx(item) }
}

fn batch(expected_offset: u64, next_offset: u64) -> EffectBatch {
    EffectBatch { consumer: USER_EVENTS_CONSUMER, expected_offset, next_offset, ..Default::default() }
}

fn seen(item: u32, at: i64, rewards: f32) -> PosteriorChange {
    PosteriorChange { item: ItemIx(item), at, impressions: 1.0, rewards }
}

async fn an_empty_store_knows_nobody(store: Store, _: &Time) {
    assert_eq!(store.load_users(&[uid(1), uid(2)]).await.unwrap(), [UserState::default(), UserState::default()]);
    assert_eq!(store.load_users(&[]).await.unwrap(), []);
    assert_eq!(store.fences(&[uid(1)]).await.unwrap(), [None]);
    assert_eq!(store.load_outcomes(0, &[outcome(1, 1)]).await.unwrap(), [0]);
    assert_eq!(store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap(), 0);
    assert_eq!(store.posteriors().await.unwrap(), PosteriorSnapshot::default());
    assert_eq!(store.user_count().await.unwrap(), 0);
}

async fn a_batch_is_stored_whole(store: Store, _: &Time) {
    let effects = EffectBatch {
        users: vec![(uid(1), state(3)), (uid(2), state(70))],
        posteriors: vec![seen(9, START, 1.0), seen(4, START, 0.0), seen(9, START, 0.0)],
        outcomes: vec![(outcome(1, 9), OUTCOME_IMPRESSION | OUTCOME_REWARD), (outcome(1, 4), OUTCOME_IMPRESSION)],
        erased: vec![(uid(3), 5)],
        ..batch(0, 12)
    };
    store.apply(effects).await.unwrap();
    let users = store.load_users(&[uid(2), uid(5), uid(1), uid(2)]).await.unwrap();
    assert_eq!(users, [state(70), UserState::default(), state(3), state(70)], "in the order asked");
    let keys = [outcome(1, 4), outcome(2, 4), outcome(1, 9)];
    assert_eq!(store.load_outcomes(0, &keys).await.unwrap(), [1, 0, 3]);
    assert_eq!(store.fences(&[uid(3), uid(1)]).await.unwrap(), [Some(5), None]);
    assert_eq!(store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap(), 12);
    let snapshot = store.posteriors().await.unwrap();
    let counts: Vec<_> = snapshot.counts.iter().map(|c| (c.item.0, c.impressions, c.rewards)).collect();
    assert_eq!(counts, [(4, 1.0, 0.0), (9, 2.0, 1.0)], "sorted by item");
}

async fn a_batch_at_the_wrong_offset_changes_nothing(store: Store, _: &Time) {
    store.apply(EffectBatch { users: vec![(uid(1), state(1))], ..batch(0, 4) }).await.unwrap();
    for expected in [0, 3, 5] {
        let effects = EffectBatch {
            users: vec![(uid(1), state(2)), (uid(2), state(2))],
            posteriors: vec![seen(1, START, 1.0)],
            outcomes: vec![(outcome(1, 1), 3)],
            erased: vec![(uid(1), 9)],
            ..batch(expected, 9)
        };
        let refused = store.apply(effects).await.unwrap_err();
        assert_eq!(refused, StorageError::Conflict { expected, found: 4 });
    }
    let backwards = store.apply(batch(4, 3)).await.unwrap_err();
    assert!(matches!(&backwards, StorageError::Invalid { field, .. } if field == "next_offset"), "{backwards:?}");
    assert_eq!(store.load_users(&[uid(1), uid(2)]).await.unwrap(), [state(1), UserState::default()]);
    assert_eq!(store.load_outcomes(0, &[outcome(1, 1)]).await.unwrap(), [0]);
    assert_eq!(store.fences(&[uid(1)]).await.unwrap(), [None]);
    assert!(store.posteriors().await.unwrap().counts.is_empty());
    assert_eq!((store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap(), store.user_count().await.unwrap()), (4, 1));
}

async fn consumers_move_apart(store: Store, _: &Time) {
    store.apply(batch(0, 8)).await.unwrap();
    store.apply(EffectBatch { consumer: USER_UPDATES_CONSUMER, ..batch(0, 2) }).await.unwrap();
    store.apply(batch(8, 9)).await.unwrap();
    assert_eq!(store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap(), 9);
    assert_eq!(store.progress(USER_UPDATES_CONSUMER, 0).await.unwrap(), 2);
}

async fn partitions_move_apart_and_sum_up(store: Store, _: &Time) {
    let third = first_offset(3);
    assert_eq!(store.progress(USER_EVENTS_CONSUMER, 3).await.unwrap(), third);
    let evidence = |item| vec![seen(item, START, 1.0)];
    store.apply(EffectBatch { posteriors: evidence(1), ..batch(0, 8) }).await.unwrap();
    store.apply(EffectBatch { posteriors: evidence(1), ..batch(third, third + 5) }).await.unwrap();
    store.apply(EffectBatch { posteriors: evidence(2), ..batch(third + 5, third + 6) }).await.unwrap();
    assert_eq!(store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap(), 8);
    assert_eq!(store.progress(USER_EVENTS_CONSUMER, 3).await.unwrap(), third + 6);
    let counts = store.posteriors().await.unwrap().counts;
    let counts: Vec<_> = counts.iter().map(|c| (c.item.0, c.impressions, c.rewards)).collect();
    assert_eq!(counts, [(1, 2.0, 2.0), (2, 1.0, 1.0)]);
    let short = Duration::from_millis(5);
    assert_eq!(store.wait_applied(USER_EVENTS_CONSUMER, third + 6, short).await.unwrap(), third + 6);
    assert_eq!(store.wait_applied(USER_EVENTS_CONSUMER, third + 7, short).await.unwrap(), third + 6);
    let astride = store.apply(batch(8, third + 6)).await.unwrap_err();
    assert!(matches!(&astride, StorageError::Invalid { field, .. } if field == "next_offset"), "{astride:?}");
}

async fn waiting_ends_when_the_offset_is_applied(store: Store, _: &Time) {
    store.apply(batch(0, 3)).await.unwrap();
    let short = Duration::from_millis(5);
    assert_eq!(store.wait_applied(USER_EVENTS_CONSUMER, 3, short).await.unwrap(), 3);
    assert_eq!(store.wait_applied(USER_EVENTS_CONSUMER, 4, short).await.unwrap(), 3, "late, and it says how far");
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.wait_applied(USER_EVENTS_CONSUMER, 5, Duration::from_secs(30)).await.unwrap() }
    });
    tokio::task::yield_now().await;
    store.apply(batch(3, 4)).await.unwrap();
    store.apply(batch(4, 7)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 7);
}

async fn posteriors_decay_by_half_lives(store: Store, time: &Time) {
    let changes = vec![seen(1, START, 1.0), seen(2, START, 1.0), seen(2, START - DAY, 0.0)];
    store.apply(EffectBatch { posteriors: changes, ..batch(0, 3) }).await.unwrap();
    store.apply(EffectBatch { posteriors: vec![seen(1, START + DAY, 0.0)], ..batch(3, 4) }).await.unwrap();
    for (days, one, two) in [(1, (1.5, 0.5), (0.75, 0.5)), (4, (0.1875, 0.0625), (0.09375, 0.0625))] {
        time.set(START + days * DAY);
        let counts = store.posteriors().await.unwrap().counts;
        let found: Vec<_> = counts.iter().map(|c| (c.impressions, c.rewards)).collect();
        assert_eq!(found, [one, two], "after {days} half-lives");
    }
}

async fn erased_visitors_are_gone_and_fenced(store: Store, _: &Time) {
    store.apply(EffectBatch { users: vec![(uid(1), state(2)), (uid(2), state(2))], ..batch(0, 4) }).await.unwrap();
    store
        .apply(EffectBatch { erased: vec![(uid(1), 5), (uid(2), 6)], users: vec![(uid(2), state(7))], ..batch(4, 8) })
        .await
        .unwrap();
    assert_eq!(store.load_users(&[uid(1), uid(2)]).await.unwrap(), [UserState::default(), state(7)], "one came back");
    assert_eq!(store.user_count().await.unwrap(), 1);
    store.apply(EffectBatch { erased: vec![(uid(2), 3)], ..batch(8, 9) }).await.unwrap();
    assert_eq!(store.fences(&[uid(1), uid(2)]).await.unwrap(), [Some(5), Some(6)], "a fence never moves back");
    assert_eq!(store.user_count().await.unwrap(), 0);
}

async fn outcomes_are_forgotten_by_day(store: Store, _: &Time) {
    let keys = [outcome(-1, 1), outcome(9, 2), outcome(10, 3), outcome(11, 4)];
    store.apply(EffectBatch { outcomes: keys.map(|k| (k, 1)).to_vec(), ..batch(0, 4) }).await.unwrap();
    store.apply(EffectBatch { outcomes: vec![(keys[3], 3)], ..batch(4, 5) }).await.unwrap();
    assert_eq!(store.load_outcomes(0, &keys).await.unwrap(), [1, 1, 1, 3], "new bits replace");
    store.forget_outcomes_before(10).await.unwrap();
    assert_eq!(store.load_outcomes(0, &keys).await.unwrap(), [0, 0, 1, 3]);
}

async fn visitors_are_counted_once(store: Store, _: &Time) {
    for step in 0..3 {
        let users = vec![(uid(1), state(step)), (uid(1), state(step + 1)), (uid(2 + step as u8), state(1))];
        store.apply(EffectBatch { users, ..batch(step.into(), u64::from(step) + 1) }).await.unwrap();
    }
    assert_eq!(store.user_count().await.unwrap(), 4);
    assert_eq!(store.load_users(&[uid(1)]).await.unwrap(), [state(3)], "the last of a batch stands");
}
