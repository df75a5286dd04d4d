//! The consumer on real stores.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/bed.rs"]
mod support;

use attune_domain::{EventKind, StateVersion, UserState};
use attune_proto::state::v1 as wire;
use attune_storage::{Record, Topic, USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER};
use bytes::Bytes;
use prost::Message as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use support::*;

#[tokio::test]
async fn an_impression_and_a_reward_count_once_per_decision_and_item() {
    let bed = Bed::memory();
    use EventKind::{Click, Conversion, Impression, Like};
    for (request, item, kind) in [
        (1, 1, Impression),
        (1, 1, Impression),
        (1, 1, Click),
        (1, 1, Conversion),
        (2, 1, Click), // implies its impression
        (2, 1, Impression),
        (3, 1, Impression),
        (1, 2, Like),
    ] {
        bed.write(vec![decided(1, request, item, kind)]).await;
    }
    // None of these may count.
    let click = || decided(1, 9, 3, Click);
    bed.write(vec![
        Event { imported: true, ..click() },
        Event { in_decision: false, ..click() },
        Event { request_id: Bytes::new(), ..click() },
        Event { item: u32::MAX, ..click() },
        Event { accepted_at: NOW + 31 * DAY, ..click() },
    ])
    .await;
    let bed = bed.caught_up().await;
    let counts = bed.store.posteriors().await.unwrap().counts;
    let found: Vec<_> = counts.iter().map(|c| (c.item.0, c.impressions, c.rewards)).collect();
    assert_eq!(found, [(1, 3.0, 2.0), (2, 1.0, 1.0)]);
    let state = bed.state(1).await;
    assert!(state.window.has_seen(attune_domain::ItemIx(3)), "imported history feeds the window");
    assert_eq!((bed.stats.impressions.load(Relaxed), bed.stats.rewards.load(Relaxed)), (4, 3));
}

#[tokio::test]
async fn attributes_and_windows_do_not_overwrite_each_other() {
    let bed = Bed::memory();
    for n in 0..200u32 {
        bed.write(vec![decided(1, n, n, EventKind::Click)]).await;
        bed.write_attributes(1, &[("age", &n.to_string())]).await;
    }
    bed.write_attributes(2, &[]).await;
    let bed = bed.caught_up().await;
    let state = bed.state(1).await;
    assert_eq!(state.attributes.get("age"), Some("199"));
    assert_eq!((state.window.events().len(), state.window.seen().len()), (50, 200));
    assert_eq!(state.version, StateVersion { epoch: 0, next_offset: 200 });
    assert_eq!(bed.store.user_count().await.unwrap(), 1, "an empty set makes nobody");
}

#[tokio::test]
async fn what_is_stated_again_is_newer_and_nobody_is_told() {
    let bed = Bed::memory();
    bed.write_attributes_at(1, &[("age", "30s")], NOW).await;
    bed.write_attributes_at(2, &[("age", "30s")], 0).await;
    let bed = bed.caught_up().await;
    assert_eq!(bed.state(1).await.attributes_at, Some(NOW));
    assert_eq!(bed.state(2).await.attributes_at, None, "nobody noted when");
    let told = bed.log.bounds(Topic::StateVersions).await.unwrap().end;
    bed.write_attributes_at(1, &[("age", "30s")], NOW + DAY).await;
    let bed = bed.caught_up().await;
    assert_eq!(bed.state(1).await.attributes_at, Some(NOW + DAY));
    bed.write_attributes_at(1, &[], NOW + 2 * DAY).await;
    let bed = bed.caught_up().await;
    assert_eq!(bed.state(1).await, UserState::default());
    // Only the one who lost them moved.
    let moves = bed.log.read(Topic::StateVersions, told, 10, Duration::ZERO).await.unwrap();
    assert_eq!(moves.iter().flat_map(|(_, record)| moved(record)).map(|(uid, _)| uid).collect::<Vec<_>>(), [uid(1)]);
}

#[tokio::test]
async fn poison_goes_to_the_dead_topic_and_stops_nothing() {
    let bed = Bed::memory();
    bed.write(vec![decided(1, 1, 1, EventKind::Click)]).await;
    let poison = [
        (Bytes::from_static(b"\xff\xff\xff"), ""),
        (Bytes::new(), "uid: must be 17 bytes"),
        (user_record(Event { kind: 99, ..decided(1, 2, 2, EventKind::Click) }), "kind: unknown event type"),
        (user_record(Event { value: f32::NAN, ..decided(1, 2, 2, EventKind::Click) }), "value: must be finite"),
    ];
    for (value, _) in &poison {
        bed.write_raw(Topic::UserEvents, value.clone()).await;
    }
    bed.write_raw(Topic::UserUpdates, Bytes::from_static(b"\xff")).await;
    bed.write(vec![decided(1, 3, 3, EventKind::Click)]).await;
    let bed = bed.caught_up().await;
    assert_eq!(bed.state(1).await.window.events().len(), 2);
    let dead = bed.log.read(Topic::UserEventsDead, 0, 100, Duration::ZERO).await.unwrap();
    let mut dead: Vec<_> = dead.iter().map(|(_, r)| wire::DeadRecord::decode(r.value.clone()).unwrap()).collect();
    dead.sort_by_key(|d| (d.topic.clone(), d.offset));
    assert_eq!(dead.len(), 5);
    for ((dead, (value, reason)), offset) in dead.iter().zip(&poison).zip(1..) {
        assert_eq!((dead.topic.as_str(), dead.offset, &dead.value), ("user-events", offset, value));
        assert!(!dead.reason.is_empty() && dead.reason.starts_with(reason), "{}", dead.reason);
    }
    assert_eq!(dead[4].topic, "user-updates");
    assert_eq!(bed.stats.dead.load(Relaxed), 5);
}

#[tokio::test]
async fn the_erased_stay_erased_when_all_is_replayed() {
    let bed = Bed::memory();
    bed.write(vec![decided(1, 1, 1, EventKind::Click), decided(2, 1, 1, EventKind::Click)]).await;
    let bed = bed.caught_up().await;
    assert_eq!(bed.store.user_count().await.unwrap(), 2);
    bed.erase(1).await;
    let bed = bed.caught_up().await;
    assert_eq!(bed.state(1).await, UserState::default());
    assert_eq!(bed.store.fences(&[uid(1)]).await.unwrap(), [Some(3)]);
    // A store that knows the fence and nothing else, as after restoring one: earlier records are void.
    let rebuilt = bed.with_fresh_store_fenced(&[(uid(1), 3)]).await.caught_up().await;
    assert_eq!(rebuilt.state(1).await, UserState::default());
    assert_eq!(rebuilt.stats.void.load(Relaxed), 2, "the event and the erasure itself");
    assert_eq!(rebuilt.store.user_count().await.unwrap(), 1);
    // Who comes back begins anew.
    rebuilt.write(vec![decided(1, 5, 7, EventKind::Click)]).await;
    let back = rebuilt.caught_up().await.state(1).await;
    assert_eq!(back.window.events().iter().map(|e| e.item.0).collect::<Vec<_>>(), [7]);
}

#[tokio::test]
async fn every_move_is_announced_with_its_trace() {
    let bed = Bed::memory();
    bed.write(vec![decided(1, 1, 1, EventKind::Click), decided(2, 1, 1, EventKind::Click)]).await;
    bed.write(vec![decided(1, 2, 2, EventKind::Click)]).await;
    let bed = bed.caught_up().await;
    let told = announced(&bed).await;
    assert_eq!(told[&uid(1)], 3);
    assert_eq!(told[&uid(2)], 2);
    let (_, Record { traceparent, .. }) = &bed.log.read(Topic::StateVersions, 0, 1, Duration::ZERO).await.unwrap()[0];
    assert_eq!(traceparent, TRACE);
    // The process may end between storing and announcing: a new one announces the last batch again.
    let before = bed.log.bounds(Topic::StateVersions).await.unwrap().end;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(bed.embedder().run(stopping));
    let again = bed.log.read(Topic::StateVersions, before, 100, Duration::from_secs(30)).await.unwrap();
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    assert_eq!(again.iter().flat_map(|(_, record)| moved(record)).count(), 2);
    assert_eq!(announced(&bed).await, told);
    assert_eq!(bed.store.progress(USER_EVENTS_CONSUMER, 0).await.unwrap(), 3);
    assert_eq!(bed.store.progress(USER_UPDATES_CONSUMER, 0).await.unwrap(), 0);
}
