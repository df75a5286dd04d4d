use crate::backends::{START, Time};
use attune_domain::{
    EventKey, EventKind, ItemIx, PosteriorSnapshot, RequestId, StateVersion, Uid, UserState, WindowEvent,
};
use attune_storage::{
    EffectBatch, ExportCursor, FeatureStore, OUTCOME_IMPRESSION, OutcomeKey, PartitionTotals, Positions,
    PosteriorChange, StorageError, StorePart, USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER,
};
use std::sync::Arc;

type Store = Arc<dyn FeatureStore>;

crate::suite!(feature_store:
    parts_put_back_are_the_store_as_it_was,
    a_restoration_takes_no_batch_and_gives_way_to_another,
    a_broken_off_restoration_is_begun_anew,
    => memory, embedded, redis);

mod none {
    use super::who_cannot_says_so;

    crate::suite!(feature_store: who_cannot_says_so => remote);
}

async fn who_cannot_says_so(store: Store, _: &Time) {
    assert!(store.checkpoints(1).is_none());
}

const VISITORS: u16 = 700;
const DAYS: i64 = 3;

fn uid(n: u16) -> Uid {
    let mut bytes = [2; 17];
    bytes[3..5].copy_from_slice(&n.to_be_bytes());
    Uid(bytes)
}

fn outcome(n: u16) -> OutcomeKey {
    let request = RequestId::new(START, [(n / 2 % 251) as u8; 10]);
    OutcomeKey { day: 20_000 + i64::from(n) % DAYS, request, item: ItemIx(n.into()) }
}

fn state(n: u16, turn: u64) -> UserState {
    let mut state = UserState { version: StateVersion { epoch: 0, next_offset: turn }, ..Default::default() };
    state.window.insert(WindowEvent {
        occurred_at: START + turn as i64,
        key: EventKey(turn),
        item: ItemIx(n.into()),
        kind: EventKind::Click,
        value: 1.0,
    });
    state
}

/// Moves some visitors, erases one and counts something, as the batch from `turn` to the next.
fn batch(turn: u64, visitors: impl Iterator<Item = u16>) -> EffectBatch {
    let visitors: Vec<u16> = visitors.collect();
    let first = visitors[0];
    EffectBatch {
        consumer: USER_EVENTS_CONSUMER,
        expected_offset: turn,
        next_offset: turn + 1,
        users: visitors.iter().map(|&n| (uid(n), state(n, turn))).collect(),
        posteriors: visitors
            .iter()
            .map(|&n| PosteriorChange {
                item: ItemIx(u32::from(n) % 50),
                at: START + i64::from(n) * 1_000,
                impressions: 1.0,
                rewards: 0.25,
            })
            .collect(),
        outcomes: visitors.iter().map(|&n| (outcome(n), OUTCOME_IMPRESSION + u8::from(turn > 1))).collect(),
        // Of somebody else, so that erasing and moving do not hide each other.
        erased: vec![(uid((first + 350) % VISITORS), turn + 1)],
    }
}

/// Everything that can be asked.
#[derive(Debug, PartialEq)]
struct Contents {
    users: Vec<UserState>,
    fences: Vec<Option<u64>>,
    outcomes: Vec<u8>,
    posteriors: PosteriorSnapshot,
    count: u64,
    positions: [u64; 2],
}

async fn contents(store: &Store) -> Contents {
    let uids: Vec<_> = (0..VISITORS).map(uid).collect();
    let keys: Vec<_> = (0..VISITORS).map(outcome).collect();
    let mut positions = [0; 2];
    for (position, consumer) in positions.iter_mut().zip([USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER]) {
        *position = store.progress(consumer, 0).await.unwrap();
    }
    Contents {
        users: store.load_users(&uids).await.unwrap(),
        fences: store.fences(&uids).await.unwrap(),
        outcomes: store.load_outcomes(0, &keys).await.unwrap(),
        posteriors: store.posteriors().await.unwrap(),
        count: store.user_count().await.unwrap(),
        positions,
    }
}

/// Parts and totals, with a batch after each of the first few parts.
async fn export(store: &Store) -> (Vec<StorePart>, PartitionTotals) {
    let checkpoints = store.checkpoints(1).unwrap();
    let (mut parts, mut cursor, mut turn) = (Vec::new(), Some(ExportCursor::default()), 2);
    while let Some(from) = cursor {
        let (part, next) = checkpoints.export(0, &from, 100).await.unwrap();
        parts.push(part);
        if turn < 8 {
            let moved = batch(turn, (turn as u16 * 90..turn as u16 * 90 + 60).map(|n| n % VISITORS));
            parts.push(StorePart::of_batch(&moved));
            store.apply(moved).await.unwrap();
            turn += 1;
        }
        cursor = next;
    }
    (parts, checkpoints.totals(0).await.unwrap())
}

async fn filled(store: &Store) {
    store.apply(batch(0, 0..VISITORS)).await.unwrap();
    store.apply(batch(1, 100..150)).await.unwrap();
    let updates = EffectBatch { consumer: USER_UPDATES_CONSUMER, next_offset: 4, ..Default::default() };
    store.apply(updates).await.unwrap();
}

fn stands(contents: &Contents) -> Positions {
    let [events, updates] = contents.positions;
    Positions { events, updates }
}

async fn parts_put_back_are_the_store_as_it_was(store: Store, _: &Time) {
    filled(&store).await;
    let (parts, totals) = export(&store).await;
    let before = contents(&store).await;
    assert_eq!(totals.positions, stands(&before));
    assert!(before.count > 600 && before.fences.iter().flatten().count() > 2);
    let checkpoints = store.checkpoints(1).unwrap();

    let moved = Positions { updates: 5, ..totals.positions };
    let refused = checkpoints.begin_restore(0, moved, 1).await.unwrap_err();
    assert!(matches!(refused, StorageError::Conflict { .. }), "{refused:?}");
    assert_eq!(contents(&store).await, before, "nothing changed");

    let restoration = checkpoints.begin_restore(0, totals.positions, 2).await.unwrap();
    let empty = contents(&store).await;
    assert_eq!((empty.count, stands(&empty)), (0, Positions::first(0)));
    assert!(empty.posteriors.counts.is_empty() && empty.outcomes.iter().all(|bits| *bits == 0));
    assert!(empty.fences.iter().all(Option::is_none) && empty.users.iter().all(|user| *user == UserState::default()));
    for part in parts {
        // A part whose answer was lost is put again.
        checkpoints.restore(&restoration, part.clone()).await.unwrap();
        checkpoints.restore(&restoration, part).await.unwrap();
    }
    checkpoints.end_restore(&restoration, totals.clone()).await.unwrap();
    assert_eq!(contents(&store).await, before);
    assert_eq!(checkpoints.totals(0).await.unwrap(), totals, "to the last bit");
    assert!(!checkpoints.is_restoring(0).await.unwrap());
    let turn = totals.positions.events;
    store.apply(batch(turn, 0..10)).await.unwrap();
    assert_eq!(store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap(), turn + 1);
}

async fn a_restoration_takes_no_batch_and_gives_way_to_another(store: Store, _: &Time) {
    filled(&store).await;
    let (parts, totals) = export(&store).await;
    let before = contents(&store).await;
    let checkpoints = store.checkpoints(1).unwrap();
    let one = checkpoints.begin_restore(0, totals.positions, 1).await.unwrap();
    for refused in [batch(0, 0..9), batch(totals.positions.events, 0..9)] {
        let refused = store.apply(refused).await.unwrap_err();
        assert!(matches!(refused, StorageError::Conflict { .. }), "{refused:?}");
    }
    let two = checkpoints.begin_restore(0, Positions::first(0), 2).await.unwrap();
    let conflict = |result: Result<(), StorageError>| assert!(matches!(result, Err(StorageError::Conflict { .. })));
    conflict(checkpoints.restore(&one, parts[0].clone()).await);
    conflict(checkpoints.end_restore(&one, totals.clone()).await);
    for part in parts {
        checkpoints.restore(&two, part).await.unwrap();
    }
    checkpoints.end_restore(&two, totals.clone()).await.unwrap();
    conflict(checkpoints.restore(&two, StorePart::default()).await);
    conflict(checkpoints.end_restore(&two, totals).await);
    assert_eq!(contents(&store).await, before);
}

async fn a_broken_off_restoration_is_begun_anew(store: Store, _: &Time) {
    filled(&store).await;
    let (parts, totals) = export(&store).await;
    let checkpoints = store.checkpoints(1).unwrap();
    let broken_off = checkpoints.begin_restore(0, totals.positions, 1).await.unwrap();
    checkpoints.restore(&broken_off, parts[0].clone()).await.unwrap();
    assert!(checkpoints.is_restoring(0).await.unwrap());
    // By somebody who has nothing to put back.
    let anew = checkpoints.begin_restore(0, Positions::first(0), 2).await.unwrap();
    let nothing = PartitionTotals { positions: Positions::first(0), half_life_ms: 1_000, sums: Vec::new() };
    checkpoints.end_restore(&anew, nothing).await.unwrap();
    let empty = contents(&store).await;
    assert_eq!(empty.count, 0);
    assert!(empty.users.iter().all(|user| *user == UserState::default()), "what was put is gone");
    store.apply(batch(0, 0..10)).await.unwrap();
    assert_eq!(store.user_count().await.unwrap(), 10);
}
