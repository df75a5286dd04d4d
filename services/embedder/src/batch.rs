//! A run of records and what it does to the store.
//!
//! Always holds: effects are a pure function of the records and of what the store held at the first one's offset.

use crate::processors::{bandit, context, embed};
use crate::records::{Stated, UserRecord};
use attune_domain::{StateVersion, Uid, UserState};
use attune_storage::{
    EffectBatch, FeatureStore, OutcomeKey, StorageError, USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER,
};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// A record that could be read, where it stood, and the request that wrote it.
pub(crate) struct Placed<T> {
    pub(crate) offset: u64,
    pub(crate) traceparent: String,
    pub(crate) record: T,
}

/// What a run does, and what to tell and count once it is durable.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) batch: EffectBatch,
    /// Visitors whose state moved, how far, and the last request that moved it.
    pub(crate) moved: Vec<(Uid, StateVersion, String)>,
    pub(crate) applied: usize,
    pub(crate) void: usize,
}

/// A visitor within a run.
struct Visitor {
    state: UserState,
    fence: u64,
    /// The last record that moved it: version to announce and trace context.
    moved: Option<(StateVersion, String)>,
    /// Whether a state is to be stored.
    present: bool,
}

/// Applies records of `user-events` that stand in `expected..next`.
pub(crate) async fn events(
    store: &dyn FeatureStore,
    partition: u16,
    records: Vec<Placed<UserRecord>>,
    expected: u64,
    next: u64,
    window: Duration,
) -> Result<Effects, StorageError> {
    let mut visitors = load(store, records.iter().map(|r| r.record.uid())).await?;
    let mut outcomes = load_outcomes(store, partition, &records, window).await?;
    let mut effects = Effects::default();
    for Placed { offset, traceparent, record } in records {
        let Some(visitor) = visitors.get_mut(&record.uid()) else { continue };
        if offset < visitor.fence {
            effects.void += 1;
            continue;
        }
        match record {
            UserRecord::Erased(uid) => {
                visitor.state = UserState::default();
                visitor.fence = offset + 1;
                visitor.present = false;
                visitor.moved = Some((embed::version_after(offset), traceparent));
                effects.batch.erased.push((uid, offset + 1));
            }
            UserRecord::Event(event) => {
                if let Some(key) = bandit::outcome(&event, window)
                    && let Some((bits, touched)) = outcomes.get_mut(&key)
                    && let Some(change) = bandit::apply(bits, &key, event.kind)
                {
                    *touched = true;
                    effects.batch.posteriors.push(change);
                }
                if embed::apply(&mut visitor.state, offset, &event) {
                    visitor.present = true;
                    visitor.moved = Some((visitor.state.version, traceparent));
                    effects.applied += 1;
                }
            }
        }
    }
    effects.batch.outcomes =
        outcomes.into_iter().filter_map(|(key, (bits, touched))| touched.then_some((key, bits))).collect();
    effects.collect(visitors, USER_EVENTS_CONSUMER, expected, next);
    Ok(effects)
}

/// Applies records of `user-updates` that stand in `expected..next`.
pub(crate) async fn attributes(
    store: &dyn FeatureStore,
    records: Vec<Placed<(Uid, Stated)>>,
    expected: u64,
    next: u64,
) -> Result<Effects, StorageError> {
    let mut visitors = load(store, records.iter().map(|r| r.record.0)).await?;
    let mut effects = Effects::default();
    for Placed { traceparent, record: (uid, stated), .. } in records {
        let Some(visitor) = visitors.get_mut(&uid) else { continue };
        let before = visitor.state.attributes_at;
        let changed = context::apply(&mut visitor.state, stated);
        // The same again is noted, and nobody is told.
        visitor.present |= changed || visitor.state.attributes_at != before;
        if changed {
            visitor.moved = Some((visitor.state.version, traceparent));
            effects.applied += 1;
        }
    }
    effects.collect(visitors, USER_UPDATES_CONSUMER, expected, next);
    Ok(effects)
}

impl Effects {
    fn collect(&mut self, visitors: HashMap<Uid, Visitor>, consumer: &'static str, expected: u64, next: u64) {
        (self.batch.consumer, self.batch.expected_offset, self.batch.next_offset) = (consumer, expected, next);
        for (uid, visitor) in visitors {
            self.moved.extend(visitor.moved.map(|(version, traceparent)| (uid, version, traceparent)));
            if visitor.present {
                self.batch.users.push((uid, visitor.state));
            }
        }
        // Hash maps have no order; the log of versions should.
        self.moved.sort_by_key(|(uid, version, _)| (*version, *uid));
    }
}

async fn load(
    store: &dyn FeatureStore,
    uids: impl Iterator<Item = Uid>,
) -> Result<HashMap<Uid, Visitor>, StorageError> {
    let uids: Vec<_> = uids.collect::<BTreeSet<_>>().into_iter().collect();
    let (states, fences) = futures::try_join!(store.load_users(&uids), store.fences(&uids))?;
    let visitors = uids
        .into_iter()
        .zip(states.into_iter().zip(fences))
        .map(|(uid, (state, fence))| (uid, Visitor { state, fence: fence.unwrap_or(0), moved: None, present: false }));
    Ok(visitors.collect())
}

async fn load_outcomes(
    store: &dyn FeatureStore,
    partition: u16,
    records: &[Placed<UserRecord>],
    window: Duration,
) -> Result<HashMap<OutcomeKey, (u8, bool)>, StorageError> {
    let keys: BTreeSet<_> = records
        .iter()
        .filter_map(|placed| match &placed.record {
            UserRecord::Event(event) => bandit::outcome(event, window),
            UserRecord::Erased(_) => None,
        })
        .collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<_> = keys.into_iter().collect();
    let bits = store.load_outcomes(partition, &keys).await?;
    Ok(keys.into_iter().zip(bits.into_iter().map(|bits| (bits, false))).collect())
}
