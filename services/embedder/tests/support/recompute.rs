//! What the log says, computed anew and in another way, and the check that a store holds it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

use attune_domain::{EventKind, ItemIx, StateVersion, Uid, UserState};
use attune_proto::convert;
use attune_proto::state::v1 as wire;
use attune_storage::{EventLog, FeatureStore, Topic};
use prost::Message as _;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// Gives how many visitors and items with evidence there are.
pub async fn check(log: &dyn EventLog, store: &dyn FeatureStore) -> (usize, usize) {
    let (users, sums) = recompute(log).await;
    let uids: Vec<_> = users.keys().copied().collect();
    let stored = store.load_users(&uids).await.unwrap();
    for (uid, stored) in uids.iter().zip(&stored) {
        assert_eq!(stored, &users[uid]);
    }
    assert_eq!(store.user_count().await.unwrap(), users.len() as u64);
    let counts = store.posteriors().await.unwrap().counts;
    assert_eq!(counts.iter().map(|c| c.item).collect::<Vec<_>>(), sums.keys().copied().collect::<Vec<_>>());
    for (count, (impressions, rewards)) in counts.iter().zip(sums.values()) {
        assert!((f64::from(count.impressions) - impressions).abs() < 1e-3, "{count:?} {impressions}");
        assert!((f64::from(count.rewards) - rewards).abs() < 1e-3, "{count:?} {rewards}");
    }
    (users.len(), sums.len())
}

/// What the log says: states, attributes and plain decayed sums.
async fn recompute(log: &dyn EventLog) -> (HashMap<Uid, UserState>, BTreeMap<ItemIx, (f64, f64)>) {
    let mut users: HashMap<Uid, UserState> = HashMap::new();
    let mut sums: BTreeMap<ItemIx, (f64, f64)> = BTreeMap::new();
    let (mut shown, mut rewarded) = (HashSet::new(), HashSet::new());
    let mut from = 0;
    loop {
        let found = log.read(Topic::UserEvents, from, 5_000, Duration::ZERO).await.unwrap();
        let Some((last, _)) = found.last() else { break };
        from = last + 1;
        for (offset, record) in found {
            let Ok(record) = wire::UserRecord::decode(record.value) else { continue };
            let Ok(uid) = convert::uid(&record.uid) else { continue };
            let event = match record.record {
                Some(wire::user_record::Record::Event(event)) => convert::event(uid, &event).unwrap(),
                Some(wire::user_record::Record::Erased(_)) => {
                    users.remove(&uid);
                    continue;
                }
                None => continue,
            };
            users.entry(event.uid).or_default().apply(StateVersion { epoch: 0, next_offset: offset + 1 }, &event);
            if event.imported || matches!(event.kind, EventKind::Dwell | EventKind::Hide) {
                continue;
            }
            // All decisions were made at the clock's time, so each counts whole.
            let decision = (event.request_id.unwrap(), event.item);
            let sum = sums.entry(event.item).or_default();
            sum.0 += f64::from(u8::from(shown.insert(decision)));
            if event.kind != EventKind::Impression {
                sum.1 += f64::from(u8::from(rewarded.insert(decision)));
            }
        }
    }
    for (_, record) in log.read(Topic::UserUpdates, 0, usize::MAX, Duration::ZERO).await.unwrap() {
        let update = wire::UserAttributes::decode(record.value).unwrap();
        let uid = convert::uid(&update.uid).unwrap();
        let attributes = convert::user_attributes(&update.attributes);
        // An empty set makes nobody.
        if users.contains_key(&uid) || !attributes.0.is_empty() {
            let state = users.entry(uid).or_default();
            state.attributes_at = (update.accepted_at != 0 && !attributes.0.is_empty()).then_some(update.accepted_at);
            state.attributes = attributes;
        }
    }
    (users, sums)
}
