//! Stores, records and a consumer to run over them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

pub use attune_proto::state::v1::Event;

use attune_domain::{EventKind, RequestId, Uid, UserState};
use attune_embedder::{Embedder, EmbedderConfig, EmbedderStats};
use attune_proto::state::v1 as wire;
use attune_storage::{
    Clock, EffectBatch, EventLog, FeatureStore, MemoryEventLog, MemoryFeatureStore, Record, Topic,
    USER_EVENTS_CONSUMER, USER_UPDATES_CONSUMER,
};
use bytes::Bytes;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub const DAY: i64 = 86_400_000;
pub const NOW: i64 = 20_000 * DAY;
pub const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

pub fn uid(n: u32) -> Uid {
    let mut bytes = [1; 17];
    bytes[1..5].copy_from_slice(&n.to_be_bytes());
    Uid(bytes)
}

/// An event of visitor `user` about an item of a decision made now. The visitor's number travels in `event_id`.
pub fn decided(user: u32, request: u32, item: u32, kind: EventKind) -> Event {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 10];
    random[..4].copy_from_slice(&request.to_be_bytes());
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    Event {
        event_id: format!("{user}:{n}"),
        kind: kind.code().into(),
        item_id: format!("item-{item}"),
        item,
        request_id: Bytes::copy_from_slice(&RequestId::new(NOW, random).0),
        position: Some(0),
        occurred_at: NOW + n as i64,
        accepted_at: NOW + n as i64,
        value: 1.0,
        imported: false,
        in_decision: true,
        decided: None,
    }
}

pub fn user_record(event: Event) -> Bytes {
    let user: u32 = event.event_id.split(':').next().and_then(|n| n.parse().ok()).unwrap();
    let uid = Bytes::copy_from_slice(&uid(user).0);
    wire::UserRecord { uid, record: Some(wire::user_record::Record::Event(event)), schema: 0 }.encode_to_vec().into()
}

pub fn record(value: Bytes) -> Record {
    Record { key: Bytes::new(), value, traceparent: TRACE.to_owned() }
}

pub fn clock() -> Clock {
    Arc::new(|| NOW)
}

pub struct Bed {
    pub log: Arc<dyn EventLog>,
    pub store: Arc<dyn FeatureStore>,
    pub stats: Arc<EmbedderStats>,
    pub config: EmbedderConfig,
}

impl Bed {
    pub fn memory() -> Self {
        let store = MemoryFeatureStore::new(EmbedderConfig::default().feature_options(clock()));
        Self::on(Arc::new(MemoryEventLog::default()), Arc::new(store))
    }

    pub fn on(log: Arc<dyn EventLog>, store: Arc<dyn FeatureStore>) -> Self {
        Self { log, store, stats: Arc::default(), config: EmbedderConfig::default() }
    }

    /// The same log, and a store that holds these fences and nothing else.
    pub async fn with_fresh_store_fenced(self, fences: &[(Uid, u64)]) -> Self {
        let bed = Self { log: self.log, ..Self::memory() };
        let fenced = EffectBatch { consumer: USER_EVENTS_CONSUMER, erased: fences.to_vec(), ..Default::default() };
        bed.store.apply(fenced).await.unwrap();
        bed
    }

    pub async fn write(&self, events: Vec<Event>) {
        let records = events.into_iter().map(|event| (record(user_record(event)), None)).collect();
        self.log.append(Topic::UserEvents, records).await.unwrap();
    }

    pub async fn write_raw(&self, topic: Topic, value: Bytes) {
        self.log.append(topic, vec![(record(value), None)]).await.unwrap();
    }

    pub async fn write_attributes(&self, user: u32, attributes: &[(&str, &str)]) {
        self.write_attributes_at(user, attributes, NOW).await;
    }

    pub async fn write_attributes_at(&self, user: u32, attributes: &[(&str, &str)], accepted_at: i64) {
        let attribute = |(name, value): &(&str, &str)| wire::Attribute { name: (*name).into(), value: (*value).into() };
        let uid = Bytes::copy_from_slice(&uid(user).0);
        let attributes = attributes.iter().map(attribute).collect();
        let update = wire::UserAttributes { uid, attributes, accepted_at, ..Default::default() };
        self.write_raw(Topic::UserUpdates, update.encode_to_vec().into()).await;
    }

    pub async fn erase(&self, user: u32) {
        let erased = wire::user_record::Record::Erased(wire::Erased { at: NOW });
        let erased = wire::UserRecord { uid: Bytes::copy_from_slice(&uid(user).0), record: Some(erased), schema: 0 };
        self.write_raw(Topic::UserEvents, erased.encode_to_vec().into()).await;
    }

    pub fn embedder(&self) -> Embedder {
        Embedder::new(self.log.clone(), self.store.clone(), self.config.clone(), clock())
    }

    /// Runs a new consumer until it has applied all that is there, and ends it.
    pub async fn caught_up(mut self) -> Self {
        let embedder = self.embedder();
        self.stats = embedder.stats();
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let running = tokio::spawn(embedder.run(stopping));
        for (topic, consumer) in
            [(Topic::UserEvents, USER_EVENTS_CONSUMER), (Topic::UserUpdates, USER_UPDATES_CONSUMER)]
        {
            let end = self.log.bounds(topic).await.unwrap().end;
            let applied = self.store.wait_applied(consumer, end, Duration::from_secs(60)).await.unwrap();
            assert_eq!(applied, end, "{consumer} did not catch up");
        }
        self.announced_all().await;
        stop.send_replace(true);
        running.await.unwrap().unwrap();
        self
    }

    /// Announcements follow the commit; the last visitor's must be there before the consumer is ended.
    async fn announced_all(&self) {
        let end = self.log.bounds(Topic::UserEvents).await.unwrap().end;
        let Some(start) = end.checked_sub(1) else { return };
        let last = self.log.read(Topic::UserEvents, start, 1, Duration::ZERO).await.unwrap();
        if wire::UserRecord::decode(last[0].1.value.clone()).is_err() {
            return;
        }
        let mut from = 0;
        loop {
            let found = self.log.read(Topic::StateVersions, from, 1_000, Duration::from_secs(10)).await.unwrap();
            assert!(!found.is_empty(), "the last move was not announced");
            from = found[found.len() - 1].0 + 1;
            let mut told = found.iter().flat_map(|(_, record)| moved(record));
            if told.any(|(_, version)| version >= end) {
                return;
            }
        }
    }

    pub async fn state(&self, user: u32) -> UserState {
        self.store.load_users(&[uid(user)]).await.unwrap().remove(0)
    }
}

/// Visitors that a record of `state-versions` tells of, and how far their states have come.
pub fn moved(record: &Record) -> impl Iterator<Item = (Uid, u64)> {
    let record = wire::StateVersions::decode(record.value.clone()).unwrap();
    record.visitors.into_iter().map(|moved| (Uid::from_slice(&moved.uid).unwrap(), moved.version.unwrap().next_offset))
}

/// Newest version announced of each visitor.
pub async fn announced(bed: &Bed) -> HashMap<Uid, u64> {
    let found = bed.log.read(Topic::StateVersions, 0, 10_000, Duration::ZERO).await.unwrap();
    found.iter().flat_map(|(_, record)| moved(record)).collect()
}
