//! Visitors' clients that remember what they were told is safe, and the check that it is: what the log holds is
//! computed anew and compared with the store.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

use crate::platform::{ITEMS, Rng, Site, event, item};
use attune_domain::{EventKind, ItemIx, StateVersion, Uid, UserState};
use attune_identity::SubjectKey;
use attune_proto::{convert, state::v1 as wire};
use attune_storage::{EventLog, FeatureStore, Topic, partition_of};
use prost::Message as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

pub const CLIENTS: u64 = 4;

static STOP: AtomicBool = AtomicBool::new(false);

/// For one test of a binary at a time: there is one end of the feeding for all.
pub async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let alone = ALONE.lock().await;
    STOP.store(false, Ordering::Relaxed);
    alone
}

/// Ends the feeding of this test binary.
pub fn stop() {
    STOP.store(true, Ordering::Relaxed);
}

pub const VISITORS: u64 = 80;

/// One visitors' client: what it was told is safe, and what it must send again because nobody said so.
pub struct Client {
    pub number: u64,
    pub rng: Rng,
    /// Events of all clients together, in a second.
    pub rate: f64,
    next: u64,
    pub acknowledged: Vec<(String, String)>,
    pub unanswered: Option<Vec<Value>>,
    pub batches: u64,
    pub duplicates: u64,
}

impl Client {
    pub fn new(number: u64, rng: Rng, rate: f64) -> Self {
        Self { number, rng, rate, next: 0, acknowledged: Vec::new(), unanswered: None, batches: 0, duplicates: 0 }
    }

    /// Sends batches at its share of the rate until [`stop`], and the last one until it is taken.
    pub async fn feed_until_stopped(mut self, edge: Site) -> Self {
        let mut turn = 0;
        let mut shown: Vec<(String, String)> = Vec::new();
        let mut due = Instant::now();
        while !STOP.load(Ordering::Relaxed) || self.unanswered.is_some() {
            if turn % 8 == 0 {
                shown = self.page(&edge).await.unwrap_or(shown);
            }
            turn += 1;
            let batch = match self.unanswered.take() {
                Some(batch) => {
                    due = Instant::now() + Duration::from_millis(50);
                    batch
                }
                None => self.batch(&shown),
            };
            due += Duration::from_secs_f64(batch.len() as f64 * CLIENTS as f64 / self.rate);
            tokio::time::sleep_until(due).await;
            assert!(self.send(&edge, batch).await, "the edge answers");
        }
        self
    }

    async fn page(&mut self, edge: &Site) -> Option<Vec<(String, String)>> {
        let user = format!("u{}", self.rng.next(VISITORS));
        let page = edge.try_post("/v1/personalize", &json!({"user_id": user, "limit": 20})).await.ok()?;
        let request = page.json()["request_id"].as_str()?.to_owned();
        Some(page.items().into_iter().map(|item| (request.clone(), item)).collect())
    }

    /// Sends batches at its share of the rate until the platform is gone.
    pub async fn feed(mut self, edge: Site) -> Self {
        let mut shown: Vec<(String, String)> = Vec::new();
        let mut due = Instant::now();
        loop {
            if self.batches.is_multiple_of(8) {
                let Some(page) = self.page(&edge).await else { return self };
                shown = page;
            }
            let batch = match self.unanswered.take() {
                Some(batch) => batch,
                None => self.batch(&shown),
            };
            due += Duration::from_secs_f64(batch.len() as f64 * CLIENTS as f64 / self.rate);
            tokio::time::sleep_until(due).await;
            if !self.send(&edge, batch).await {
                return self;
            }
        }
    }

    /// Events of ten to fifty, of several visitors, some of what was shown and some of anything.
    fn batch(&mut self, shown: &[(String, String)]) -> Vec<Value> {
        let count = 10 + self.rng.next(41);
        let events = (0..count).map(|_| {
            let id = format!("{}-{}", self.number, self.next);
            self.next += 1;
            let kind = EventKind::ALL[self.rng.next(6) as usize];
            let mut event = event(&id, kind.as_str(), &format!("u{}", self.rng.next(VISITORS)), "");
            event["item_id"] = item(self.rng.next(u64::from(ITEMS)) as u32).into();
            if self.rng.next(3) > 0 && !shown.is_empty() {
                let (request, item) = &shown[self.rng.next(shown.len() as u64) as usize];
                event["request_id"] = request.as_str().into();
                event["item_id"] = item.as_str().into();
            }
            event
        });
        events.collect()
    }

    /// Whether the batch was taken. One that was not is kept and sent again as it is.
    pub async fn send(&mut self, edge: &Site, batch: Vec<Value>) -> bool {
        match edge.try_post("/v1/feedback", &json!({"events": batch})).await {
            Ok(answer) if answer.status == 202 => {
                let receipt = answer.json();
                let counts = [&receipt["accepted"], &receipt["duplicates"]].map(|n| n.as_u64().unwrap());
                assert_eq!(counts[0] + counts[1], batch.len() as u64, "{receipt}");
                self.batches += 1;
                self.duplicates += counts[1];
                let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
                self.acknowledged.extend(batch.iter().map(|e| (text(e, "user_id"), text(e, "event_id"))));
                true
            }
            // Refused on the way down is as good as not answered: the client sends it again.
            Ok(answer) if answer.status == 503 => {
                self.unanswered = Some(batch);
                true
            }
            Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
            Err(_) => {
                self.unanswered = Some(batch);
                false
            }
        }
    }
}

/// Every acknowledged event is in the log (once, unless it `may_repeat`), nothing else is, and the store holds what the
/// log says.
pub async fn check(
    log: &dyn EventLog,
    store: &dyn FeatureStore,
    key: &SubjectKey,
    acknowledged: &[(String, String)],
    may_repeat: bool,
) {
    let mut in_log: HashMap<(Uid, String), u32> = HashMap::new();
    let mut users: HashMap<Uid, UserState> = HashMap::new();
    let mut sums: BTreeMap<ItemIx, (f64, f64)> = BTreeMap::new();
    let (mut impressions, mut rewards) = (HashSet::new(), HashSet::new());
    for bounds in log.partitions(Topic::UserEvents).await.unwrap() {
        let mut records = Vec::new();
        let mut from = bounds.start;
        while from < bounds.end {
            let found = log.read(Topic::UserEvents, from, 5_000, Duration::from_secs(30)).await.unwrap();
            from = found.last().unwrap().0 + 1;
            records.extend(found);
        }
        for (offset, record) in records {
            let record = wire::UserRecord::decode(record.value).unwrap();
            let Some(wire::user_record::Record::Event(event)) = record.record else { panic!("nobody was erased") };
            let event = convert::event(convert::uid(&record.uid).unwrap(), &event).unwrap();
            let version = StateVersion { epoch: 0, next_offset: offset + 1 };
            users.entry(event.uid).or_default().apply(version, &event);
            if event.imported {
                continue;
            }
            *in_log.entry((event.uid, event.event_id.as_str().to_owned())).or_default() += 1;
            if let (true, Some(request)) = (event.in_decision, event.request_id)
                && !matches!(event.kind, EventKind::Dwell | EventKind::Hide)
            {
                let sum = sums.entry(event.item).or_default();
                // Evidence of a decision counts once among the events of a partition.
                let decided = (partition_of(offset), request, event.item);
                sum.0 += f64::from(u8::from(impressions.insert(decided)));
                if event.kind != EventKind::Impression {
                    sum.1 += f64::from(u8::from(rewards.insert(decided)));
                }
            }
        }
    }
    let twice: Vec<_> = in_log.iter().filter(|(_, times)| **times > 1).collect();
    assert!(may_repeat || twice.is_empty(), "in the log more than once: {twice:?}");
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|(user, event)| !in_log.contains_key(&(key.uid(user), event.clone())))
        .take(5)
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    // At the end nothing is left unanswered, so the log holds nothing else either.
    assert_eq!(in_log.len(), acknowledged.len());

    let uids: Vec<_> = users.keys().copied().collect();
    for (uid, stored) in uids.iter().zip(store.load_users(&uids).await.unwrap()) {
        assert_eq!(stored, users[uid]);
    }
    assert_eq!(store.user_count().await.unwrap(), users.len() as u64);
    let stored: BTreeMap<_, _> = store.posteriors().await.unwrap().counts.into_iter().map(|c| (c.item, c)).collect();
    assert_eq!(stored.keys().collect::<Vec<_>>(), sums.keys().collect::<Vec<_>>());
    for (item, (impressions, rewards)) in &sums {
        // Evidence ages by 0.2 % an hour: far less than one event of these few hundred.
        let count = &stored[item];
        assert!((f64::from(count.impressions) - impressions).abs() < 0.9, "{count:?} {impressions}");
        assert!((f64::from(count.rewards) - rewards).abs() < 0.9, "{count:?} {rewards}");
    }
    println!(
        "{} events in the log, {} of them more than once; {} visitors, {} items with evidence",
        in_log.len(),
        twice.len(),
        users.len(),
        sums.len()
    );
    assert!(sums.len() > 50 && rewards.len() > 100);
}
