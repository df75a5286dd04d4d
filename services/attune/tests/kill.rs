//! The whole platform is killed at random moments under feedback; in the end every acknowledged event stands in the
//! log exactly once, and the feature store holds what the log says, computed anew. `ATTUNE_TEST_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/platform.rs"]
mod platform;

use attune_domain::{EventKind, ItemIx, StateVersion, Uid, UserState};
use attune_embedder::EmbedderConfig;
use attune_identity::SubjectKey;
use attune_proto::{convert, state::v1 as wire};
use attune_runtime::system_clock;
use attune_storage::{EmbeddedEventLog, EmbeddedFeatureStore, EventLog, FeatureStore as _, Topic};
use platform::*;
use prost::Message as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::time::Instant;

const KILLS: u64 = 20;
const CLIENTS: u64 = 4;
const VISITORS: u64 = 80;
/// Of all clients together, in a second.
const RATE: f64 = 2_000.0;

/// One visitors' client: what it was told is safe, and what it must send again because nobody said so.
struct Client {
    number: u64,
    rng: Rng,
    next: u64,
    acknowledged: Vec<(String, String)>,
    unanswered: Option<Vec<Value>>,
    batches: u64,
    duplicates: u64,
}

impl Client {
    /// Sends batches at its share of the rate until the platform is gone.
    async fn feed(mut self, edge: Site) -> Self {
        let mut shown: Vec<(String, String)> = Vec::new();
        let mut due = Instant::now();
        loop {
            if self.batches.is_multiple_of(8) {
                let user = format!("u{}", self.rng.next(VISITORS));
                let Ok(page) = edge.try_post("/v1/personalize", &json!({"user_id": user, "limit": 20})).await else {
                    return self;
                };
                let request = page.json()["request_id"].as_str().unwrap().to_owned();
                shown = page.items().into_iter().map(|item| (request.clone(), item)).collect();
            }
            let batch = match self.unanswered.take() {
                Some(batch) => batch,
                None => self.batch(&shown),
            };
            due += Duration::from_secs_f64(batch.len() as f64 * CLIENTS as f64 / RATE);
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
    async fn send(&mut self, edge: &Site, batch: Vec<Value>) -> bool {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_counted_twice() {
    let mut rng = Rng::of_run();
    let dir = state();
    let folder = dir.path().join("state");
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| Client {
            number,
            rng: Rng(rng.next(u64::MAX)),
            next: 0,
            acknowledged: Vec::new(),
            unanswered: None,
            batches: 0,
            duplicates: 0,
        })
        .collect();
    let begun = Instant::now();
    let mut under_load = Duration::ZERO;
    for round in 0..KILLS {
        // Now and then it is killed while it starts.
        if round % 5 == 4 {
            let mut starting = attune();
            starting.args(["up", "--listen", "127.0.0.1:0", "--state"]).arg(&folder).stdout(Stdio::null());
            let mut starting = starting.spawn().unwrap();
            tokio::time::sleep(Duration::from_millis(20 + rng.next(400))).await;
            starting.kill().unwrap();
            starting.wait().unwrap();
        }
        let platform = Platform::start(&dir, &[]);
        let feeding: Vec<_> =
            clients.drain(..).map(|client| tokio::spawn(client.feed(platform.edge.clone()))).collect();
        let load = Duration::from_millis(200 + rng.next(1_300));
        tokio::time::sleep(load).await;
        under_load += load;
        platform.kill();
        for client in feeding {
            clients.push(client.await.unwrap());
        }
    }
    let platform = Platform::start(&dir, &[]);
    for client in &mut clients {
        if let Some(batch) = client.unanswered.take() {
            assert!(client.send(&platform.edge, batch).await && client.unanswered.is_none());
        }
    }
    assert!(platform.interrupt().success());
    // Ready means that the store has caught up with the log; without traffic it stays so.
    assert!(Platform::start(&dir, &[]).interrupt().success());

    let (batches, duplicates) = clients.iter().fold((0, 0), |(b, d), c| (b + c.batches, d + c.duplicates));
    let acknowledged: Vec<_> = clients.into_iter().flat_map(|c| c.acknowledged).collect();
    println!(
        "{KILLS} kills in {:.0?}, {under_load:.0?} under load: {batches} batches, {} events acknowledged ({:.0} a second), \
         {duplicates} of them had been made durable by a batch that was never answered",
        begun.elapsed(),
        acknowledged.len(),
        acknowledged.len() as f64 / under_load.as_secs_f64(),
    );
    check(&folder, &acknowledged).await;
    assert!(acknowledged.len() as f64 > 0.5 * RATE * under_load.as_secs_f64(), "too little load to mean anything");
}

async fn check(folder: &Path, acknowledged: &[(String, String)]) {
    let key = SubjectKey::load(&folder.join("keys/subject.key")).unwrap();
    let log = EmbeddedEventLog::open(&folder.join("origin/events")).unwrap();
    let options = EmbedderConfig::default().feature_options(system_clock());
    let store = EmbeddedFeatureStore::open(&folder.join("embedder"), options).unwrap();

    let mut in_log: HashMap<(Uid, String), u32> = HashMap::new();
    let mut users: HashMap<Uid, UserState> = HashMap::new();
    let mut sums: BTreeMap<ItemIx, (f64, f64)> = BTreeMap::new();
    let (mut impressions, mut rewards) = (HashSet::new(), HashSet::new());
    let mut from = 0;
    loop {
        let found = log.read(Topic::UserEvents, from, 5_000, Duration::ZERO).await.unwrap();
        let Some((last, _)) = found.last() else { break };
        from = last + 1;
        for (offset, record) in found {
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
                sum.0 += f64::from(u8::from(impressions.insert((request, event.item))));
                if event.kind != EventKind::Impression {
                    sum.1 += f64::from(u8::from(rewards.insert((request, event.item))));
                }
            }
        }
    }
    let twice: Vec<_> = in_log.iter().filter(|(_, times)| **times > 1).take(5).collect();
    assert!(twice.is_empty(), "in the log more than once: {twice:?}");
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
    println!("{} events in the log, {} visitors, {} items with evidence", in_log.len(), users.len(), sums.len());
    assert!(sums.len() > 50 && rewards.len() > 100);
}
