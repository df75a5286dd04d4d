//! The whole service over its generated client, on the in-memory feature store and a small trained model.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use arc_swap::ArcSwap;
use async_trait::async_trait;
use attune_bandit::{Bandit, BanditConfig, Built, Deps, build};
use attune_decision::{Choice, Policy, Posteriors, Sampler, Scratch, choose, unpack_slots};
use attune_domain::{ItemIx, PosteriorSnapshot, Uid, UserState};
use attune_proto::bandit::v1::bandit_service_client::BanditServiceClient;
use attune_proto::bandit::v1::{SampleRequest, SampleResponse};
use attune_rpc::Channel;
use attune_serving::Serving;
use attune_storage::{
    EffectBatch, FeatureOptions, FeatureStore, MemoryFeatureStore, ObjectHash, OutcomeKey, PosteriorChange,
    StorageError, USER_EVENTS_CONSUMER,
};
use attune_testkit::telemetry::{Recorded, attribute, recorded};
use attune_testkit::world::{self, ITEMS, NOW, world};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tonic::Code;

/// The in-memory store, with a switch that takes it away.
struct Store {
    inner: MemoryFeatureStore,
    away: AtomicBool,
}

#[async_trait]
impl FeatureStore for Store {
    async fn load_users(&self, uids: &[Uid]) -> Result<Vec<UserState>, StorageError> {
        self.inner.load_users(uids).await
    }
    async fn wait_applied(&self, consumer: &str, offset: u64, wait: Duration) -> Result<u64, StorageError> {
        self.inner.wait_applied(consumer, offset, wait).await
    }
    async fn progress(&self, consumer: &str, partition: u16) -> Result<u64, StorageError> {
        self.inner.progress(consumer, partition).await
    }
    async fn posteriors(&self) -> Result<PosteriorSnapshot, StorageError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StorageError::Unavailable),
            false => self.inner.posteriors().await,
        }
    }
    async fn load_outcomes(&self, partition: u16, keys: &[OutcomeKey]) -> Result<Vec<u8>, StorageError> {
        self.inner.load_outcomes(partition, keys).await
    }
    async fn fences(&self, uids: &[Uid]) -> Result<Vec<Option<u64>>, StorageError> {
        self.inner.fences(uids).await
    }
    async fn apply(&self, batch: EffectBatch) -> Result<(), StorageError> {
        self.inner.apply(batch).await
    }
    async fn forget_outcomes_before(&self, day: i64) -> Result<(), StorageError> {
        self.inner.forget_outcomes_before(day).await
    }
    async fn user_count(&self) -> Result<u64, StorageError> {
        self.inner.user_count().await
    }
}

struct Fixture {
    client: BanditServiceClient<Channel>,
    bandit: Arc<Bandit>,
    store: Arc<Store>,
    recorded: Recorded,
    _stop: watch::Sender<bool>,
}

async fn start() -> Fixture {
    let mut config: BanditConfig = attune_config::load("bandit", attune_bandit::DEFAULTS, None, &[]).unwrap();
    config.poll = attune_config::HumanDuration(Duration::from_millis(5));
    let options = FeatureOptions { half_life: Duration::from_secs(86_400 * 365), clock: Arc::new(|| NOW) };
    let store = Arc::new(Store { inner: MemoryFeatureStore::new(options), away: AtomicBool::new(false) });
    let serving = Serving::new(Arc::clone(&world().bundle), world::catalogue((0..ITEMS).map(world::item))).unwrap();
    let recorded = recorded("bandit");
    let (stop, stopped) = watch::channel(false);
    let deps = Deps {
        serving: Arc::new(ArcSwap::from_pointee(serving)),
        item_updates: None,
        store: store.clone(),
        telemetry: recorded.telemetry.clone(),
        stop: stopped,
    };
    let Built { routes, tasks, bandit } = build(&config, deps).await;
    tasks.into_iter().for_each(|task| _ = tokio::spawn(task));
    let client = BanditServiceClient::new(Channel::local("bandit", routes, &recorded.telemetry, &recorded.telemetry));
    Fixture { client, bandit, store, recorded, _stop: stop }
}

fn request(seed: u64) -> SampleRequest {
    SampleRequest {
        seed,
        limit: 20,
        items: (0..200).map(|n| n * 7 % ITEMS as u32).collect(),
        scores: (0..200).map(|n| 0.4 / (1.0 + n as f32 * 0.02)).collect(),
        model_version: world().bundle.version().to_string(),
        ..SampleRequest::default()
    }
}

async fn evidence(store: &Store, offset: u64, item: u32, impressions: f32, rewards: f32) {
    let change = PosteriorChange { item: ItemIx(item), at: NOW, impressions, rewards };
    let batch = EffectBatch {
        consumer: USER_EVENTS_CONSUMER,
        expected_offset: offset,
        next_offset: offset + 1,
        posteriors: vec![change],
        ..EffectBatch::default()
    };
    store.apply(batch).await.unwrap();
}

async fn until(f: &mut Fixture, wished: impl Fn(&SampleResponse) -> bool) -> SampleResponse {
    for _ in 0..12_000 {
        let answer = f.client.sample(request(1)).await.unwrap().into_inner();
        if wished(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the answer never came");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slate_is_the_one_everybody_else_computes() {
    let mut f = start().await;
    evidence(&f.store, 0, 28, 400.0, 150.0).await;
    let empty = ObjectHash::of(&Posteriors::encode(&PosteriorSnapshot::default())).0;
    until(&mut f, |answer| answer.posteriors[..] != empty).await;
    let bundle = &world().bundle;
    let items = attune_model::ItemTable::new(bundle, &world().data.items);
    let categories: Vec<u16> = (0..ITEMS as u32).map(|ix| items.category(ItemIx(ix))).collect();
    for seed in 0..50 {
        let request = request(seed);
        let answer = f.client.sample(request.clone()).await.unwrap().into_inner();
        // Only what the answer carries: what a decision record would hold.
        assert_eq!(ObjectHash::of(&answer.posteriors_content).0[..], answer.posteriors[..]);
        let content = prost::Message::decode(&answer.posteriors_content[..]).unwrap();
        let snapshot = attune_proto::convert::posterior_snapshot(&content).unwrap();
        let posteriors = Posteriors::new(&snapshot, [0; 16]);
        let policy = Policy::from_array(&answer.policy).unwrap();
        let base_rates = items.base_rates_of(&request.items);
        let choice =
            Choice { items: &request.items, scores: &request.scores, base_rates: &base_rates, categories: &categories };
        let chosen = choose(&policy, Sampler::Exact, seed, 20, choice, &posteriors, &mut Scratch::default());
        assert_eq!(answer.picks, chosen.picks);
        assert_eq!(answer.means, chosen.means);
        assert_eq!(unpack_slots(&answer.slots, 20), chosen.slots);
        assert_eq!((answer.sample_digest, answer.slate_digest), (chosen.sample_digest, chosen.slate_digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_arrives_and_outlives_its_store() {
    let mut f = start().await;
    let before = f.client.sample(request(1)).await.unwrap().into_inner();
    let known = SampleRequest { known_posteriors: before.posteriors.clone(), ..request(1) };
    let answer = f.client.sample(known).await.unwrap().into_inner();
    assert!(answer.posteriors_content.is_empty(), "the caller has it");
    assert_eq!(SampleResponse { posteriors_content: before.posteriors_content.clone(), ..answer }, before);

    let last = request(1).items[199];
    evidence(&f.store, 0, last, 5_000.0, 4_900.0).await;
    let loved = until(&mut f, |answer| answer.picks.contains(&199)).await;
    assert_ne!(loved.posteriors, before.posteriors);

    f.store.away.store(true, Ordering::Relaxed);
    while !f.recorded.metrics().lines().any(|line| {
        line.strip_prefix("bandit_posterior_poll_errors_total ")
            .is_some_and(|count| count.parse::<f64>().unwrap() > 0.0)
    }) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(f.client.sample(request(1)).await.unwrap().into_inner(), loved, "the last snapshot stays");
    let age = f.bandit.posteriors().age().unwrap();
    while f.bandit.posteriors().age().unwrap() <= age {
        tokio::task::yield_now().await;
    }
    assert!(f.recorded.metrics().contains("bandit_posterior_age_seconds"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_by_name() {
    let mut f = start().await;
    let good = request(1);
    let cases = [
        ("model_version", Code::FailedPrecondition, SampleRequest { model_version: "other".into(), ..good.clone() }),
        ("limit", Code::InvalidArgument, SampleRequest { limit: 0, ..good.clone() }),
        ("limit", Code::InvalidArgument, SampleRequest { limit: 101, ..good.clone() }),
        ("scores", Code::InvalidArgument, SampleRequest { scores: vec![0.5; 3], ..good.clone() }),
        ("scores", Code::InvalidArgument, SampleRequest { scores: vec![f32::NAN; 200], ..good.clone() }),
        ("scores", Code::InvalidArgument, SampleRequest { scores: vec![1.5; 200], ..good.clone() }),
        ("items", Code::InvalidArgument, SampleRequest { items: vec![4; 200], ..good.clone() }),
        ("items", Code::InvalidArgument, {
            SampleRequest { items: (0..5_000).collect(), scores: vec![0.1; 5_000], ..good.clone() }
        }),
    ];
    for (field, code, request) in cases {
        let status = f.client.sample(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{field}: {}", status.message());
        assert!(status.message().starts_with(field), "{}", status.message());
    }
    let short = SampleRequest { items: vec![1, u32::MAX], scores: vec![0.5, 0.2], ..good.clone() };
    let mut picks = f.client.sample(short).await.unwrap().into_inner().picks;
    picks.sort_unstable();
    assert_eq!(picks, [0, 1], "fewer candidates than slots, one of them unknown here");
    let none = SampleRequest { items: vec![], scores: vec![], ..good };
    assert!(f.client.sample(none).await.unwrap().into_inner().picks.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_and_metrics_are_those_of_the_contract() {
    let mut f = start().await;
    let answer = f.client.sample(request(5)).await.unwrap().into_inner();
    let slots = unpack_slots(&answer.slots, answer.picks.len());
    let explored = slots.iter().filter(|slot| slot.exploration).count();
    let metrics = f.recorded.metrics();
    let count = |kind: &str| {
        let name = format!("bandit_slots_total{{kind=\"{kind}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(count("exploit") + count("explore") + count("uniform"), 20);
    assert!(metrics.contains(r#"model_inference_latency_seconds_count{model_name="thompson"} 1"#));
    drop((f.client, f.bandit));
    let spans = f.recorded.spans();
    let sample = spans.iter().find(|span| span["name"] == "bandit.sample").expect("the server span");
    assert_eq!(attribute(sample, "algorithm").as_deref(), Some("thompson"));
    assert_eq!(attribute(sample, "exploration"), Some(explored.to_string()));
}
