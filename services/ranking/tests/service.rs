//! The whole service over its generated client, on a small trained model.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use arc_swap::ArcSwap;
use attune_domain::{Context, ItemIx};
use attune_model::UserInput;
use attune_proto::ranking::v1::ranking_service_client::RankingServiceClient;
use attune_proto::ranking::v1::{AttributeRequest, RankRequest, RankResponse};
use attune_proto::state::v1 as wire;
use attune_ranking::{Built, Deps, RankingConfig, build};
use attune_rpc::Channel;
use attune_serving::Serving;
use attune_testkit::telemetry::{Recorded, attribute, recorded};
use attune_testkit::world::{self, ITEMS, NOW, world};
use std::sync::Arc;
use tokio::sync::watch;
use tonic::Code;

struct Fixture {
    client: RankingServiceClient<Channel>,
    recorded: Recorded,
    serving: Arc<Serving>,
}

fn start() -> Fixture {
    let config: RankingConfig = attune_config::load("ranking", attune_ranking::DEFAULTS, None, &[]).unwrap();
    let serving = Serving::new(Arc::clone(&world().bundle), world::catalogue((0..ITEMS).map(world::item))).unwrap();
    let recorded = recorded("ranking");
    let deps = Deps {
        serving: Arc::new(ArcSwap::from_pointee(serving.clone())),
        item_updates: None,
        telemetry: recorded.telemetry.clone(),
        stop: watch::channel(false).1,
    };
    let Built { routes, .. } = build(&config, deps);
    let channel = Channel::local("ranking", routes, &recorded.telemetry, &recorded.telemetry);
    Fixture { client: RankingServiceClient::new(channel), recorded, serving: Arc::new(serving) }
}

fn request(items: impl IntoIterator<Item = u32>) -> RankRequest {
    RankRequest {
        user: Some(wire::UserState::from(&world::visitor(&[3, 9, 15, 21]))),
        context: Some(Context::DEFAULT.into()),
        now: NOW,
        items: items.into_iter().collect(),
        model_version: world().bundle.version().to_string(),
    }
}

fn bits(response: &RankResponse) -> Vec<[u32; 3]> {
    (0..response.click.len())
        .map(|i| {
            [&response.click, &response.conversion, &response.dwell]
                .map(|column| column.get(i).map_or(0, |x| x.to_bits()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_score_does_not_depend_on_the_batch() {
    let mut f = start();
    let all: Vec<u32> = (0..ITEMS as u32).map(|ix| ix * 7 % ITEMS as u32).collect();
    let whole = f.client.rank(request(all.clone())).await.unwrap().into_inner();
    assert_eq!(whole.click.len(), ITEMS);
    assert!(whole.click.iter().all(|p| (0.0..=1.0).contains(p)));
    let distinct: std::collections::HashSet<u32> = whole.click.iter().map(|p| p.to_bits()).collect();
    assert!(distinct.len() > ITEMS / 4, "the scores say something: {}", distinct.len());
    for size in [1, 2, 7, 64, 359] {
        let mut parts = Vec::new();
        for part in all.chunks(size) {
            parts.extend(bits(&f.client.rank(request(part.iter().copied())).await.unwrap().into_inner()));
        }
        assert_eq!(parts, bits(&whole), "batches of {size}");
    }
    let mut reversed = bits(&f.client.rank(request(all.iter().rev().copied())).await.unwrap().into_inner());
    reversed.reverse();
    assert_eq!(reversed, bits(&whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_are_the_bundles_own_and_follow_taste() {
    let mut f = start();
    let response = f.client.rank(request(0..ITEMS as u32)).await.unwrap().into_inner();
    let state = world::visitor(&[3, 9, 15, 21]);
    let input = UserInput { window: &state.window, attributes: &state.attributes, context: Context::DEFAULT, now: NOW };
    let (bundle, items) = (&f.serving.bundle, &f.serving.items);
    let user = bundle.user_vector(items, &input);
    let candidates: Vec<ItemIx> = (0..ITEMS as u32).map(ItemIx).collect();
    let scores = bundle.rank(items, &input, &user, &candidates);
    assert_eq!(response.click, scores.click);
    assert_eq!(response.conversion, scores.conversion.unwrap_or_default());
    assert_eq!(response.model_version, bundle.version().to_string());
    let mean = |wanted: bool| {
        let picked: Vec<f32> = (0..ITEMS)
            .filter(|ix| (world::taste(ItemIx(*ix as u32)) == 3) == wanted)
            .map(|ix| response.click[ix])
            .collect();
        picked.iter().sum::<f32>() / picked.len() as f32
    };
    assert!(mean(true) > mean(false), "{} {}", mean(true), mean(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn attribution_names_groups_and_the_score() {
    let mut f = start();
    let ask = |item| {
        let RankRequest { user, context, now, model_version, .. } = request([]);
        AttributeRequest { user, context, now, item, model_version }
    };
    let answer = f.client.attribute(ask(27)).await.unwrap().into_inner();
    let score = f.client.rank(request([27])).await.unwrap().into_inner().click[0];
    assert_eq!(answer.score.to_bits(), score.to_bits());
    assert!(!answer.contributions.is_empty());
    let sizes: Vec<f32> = answer.contributions.iter().map(|c| c.logit.abs()).collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b), "strongest first: {sizes:?}");
    let window = [3, 9, 15, 21];
    assert!(answer.contributions.iter().flat_map(|c| &c.evidence).all(|item| window.contains(item)));
    let unknown = f.client.attribute(ask(1_000_000)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    assert!(unknown.message().starts_with("item:"), "{}", unknown.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_by_name() {
    let mut f = start();
    let torn = wire::Window { items: vec![1], ..Default::default() };
    let cases = [
        ("model_version", Code::FailedPrecondition, RankRequest { model_version: "other".into(), ..request([1]) }),
        ("items", Code::InvalidArgument, request([1, u32::MAX])),
        ("items", Code::InvalidArgument, request(0..100_001)),
        ("context", Code::InvalidArgument, RankRequest { context: None, ..request([1]) }),
        ("window", Code::InvalidArgument, {
            let user = wire::UserState { window: Some(torn), ..Default::default() };
            RankRequest { user: Some(user), ..request([1]) }
        }),
    ];
    for (field, code, request) in cases {
        let status = f.client.rank(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{field}: {}", status.message());
        assert!(status.message().contains(field), "{}", status.message());
    }
    let unseen = f.client.rank(request([5, 1_000_000])).await.unwrap().into_inner();
    assert!(unseen.click[0] > 0.0 && unseen.click[1] == 0.0, "an item it does not know yet scores 0");
    let nobody = f.client.rank(RankRequest { user: None, ..request([5]) }).await.unwrap().into_inner();
    assert_eq!(nobody.click.len(), 1, "a visitor never seen has an empty state");
    assert!(f.client.rank(request([])).await.unwrap().into_inner().click.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_and_metrics_are_those_of_the_contract() {
    let mut f = start();
    f.client.rank(request(0..40)).await.unwrap();
    let metrics = f.recorded.metrics();
    assert!(metrics.contains(r#"model_inference_latency_seconds_count{model_name="ranker"} 1"#), "{metrics}");
    assert!(metrics.contains("ranking_scored_items_total 40"));
    drop(f.client);
    let spans = f.recorded.spans();
    let score = spans.iter().find(|span| span["name"] == "ranking.score").expect("the server span");
    assert_eq!(attribute(score, "batch_size").as_deref(), Some("40"));
    assert_eq!(attribute(score, "model"), Some(world().bundle.version().to_string()));
}
