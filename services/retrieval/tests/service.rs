//! The whole service over its generated client, on the in-memory log and a small trained model.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use arc_swap::ArcSwap;
use attune_config::HumanDuration;
use attune_decision::{Outcome, SourceItems, SourceKind};
use attune_domain::{Context, EventKind, Id, ItemIx, ItemUpdate, LoggedEvent};
use attune_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use attune_proto::retrieval::v1::{RetrieveRequest, RetrieveResponse};
use attune_proto::state::v1 as wire;
use attune_retrieval::config::{Deadlines, RetrievalConfig};
use attune_retrieval::sources::{self, Ask, CandidateSource, Look, SourceError, Work};
use attune_retrieval::telemetry::RetrievalMetrics;
use attune_retrieval::view::View;
use attune_retrieval::{Built, Deps, Retriever, build};
use attune_rpc::{Channel, Scope};
use attune_serving::{Serving, SharedServing};
use attune_storage::{EventLog, MemoryEventLog, Record, Topic};
use attune_testkit::telemetry::{Recorded, attribute, recorded};
use attune_testkit::world::{self, ITEMS, NOW, taste, world};
use prost::Message as _;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::Code;

/// Deadlines that a busy machine keeps.
fn config() -> RetrievalConfig {
    let mut config: RetrievalConfig = attune_config::load("retrieval", attune_retrieval::DEFAULTS, None, &[]).unwrap();
    let long = HumanDuration::secs(10);
    config.deadlines = Deadlines {
        neighbours: long,
        similar_to_recent: long,
        trending: long,
        fresh: long,
        cohort_favourites: long,
        related: long,
        search: long,
    };
    config
}

fn serving() -> SharedServing {
    let serving = Serving::new(Arc::clone(&world().bundle), world::catalogue((0..ITEMS).map(world::item))).unwrap();
    Arc::new(ArcSwap::from_pointee(serving))
}

struct Fixture {
    client: RetrievalServiceClient<Channel>,
    retriever: Arc<Retriever>,
    serving: SharedServing,
    log: Arc<MemoryEventLog>,
    recorded: Recorded,
    _stop: watch::Sender<bool>,
}

async fn start(config: &RetrievalConfig) -> Fixture {
    let (recorded, serving, log) = (recorded("retrieval"), serving(), Arc::new(MemoryEventLog::default()));
    append_items(&*log, (0..ITEMS).map(|ix| (ix as u32, world::item(ix)))).await;
    let (stop, stopped) = watch::channel(false);
    let deps = Deps {
        serving: Arc::clone(&serving),
        item_updates: Some(log.clone()),
        user_events: Some(log.clone()),
        telemetry: recorded.telemetry.clone(),
        stop: stopped,
    };
    let Built { routes, tasks, retriever } = build(config, deps).await.unwrap();
    tasks.into_iter().for_each(|task| _ = tokio::spawn(task));
    let caller = recorded.telemetry.clone();
    let client = RetrievalServiceClient::new(Channel::local("retrieval", routes, &recorded.telemetry, &caller));
    Fixture { client, retriever, serving, log, recorded, _stop: stop }
}

async fn append_items(log: &dyn EventLog, items: impl IntoIterator<Item = (u32, attune_domain::Item)>) {
    let record = |(ix, item): (u32, attune_domain::Item)| {
        let key = item.id.as_str().as_bytes().to_vec().into();
        let update = wire::ItemUpdate::from(&ItemUpdate { ix: ItemIx(ix), item });
        (Record { key, value: update.encode_to_vec().into(), traceparent: String::new() }, None)
    };
    log.append(Topic::ItemUpdates, items.into_iter().map(record).collect()).await.unwrap();
}

/// What a visitor who liked these items would ask for on the home page.
fn home(liked: &[u32]) -> RetrieveRequest {
    let (world, serving) = (world(), serving().load_full());
    let state = world::visitor(liked);
    let input = attune_model::UserInput {
        window: &state.window,
        attributes: &state.attributes,
        context: Context::DEFAULT,
        now: NOW,
    };
    let user_vector = world.bundle.user_vector(&serving.items, &input);
    RetrieveRequest {
        cluster: world.bundle.cohorts().assign(&user_vector).into(),
        user_vector,
        recent_items: liked.iter().rev().copied().collect(),
        context: Some(Context::DEFAULT.into()),
        item: u32::MAX,
        limit: 50,
        now: NOW,
        model_version: world.bundle.version().to_string(),
        deadline_ms: 5_000,
        ..Default::default()
    }
}

fn page(page: attune_domain::PageType, request: RetrieveRequest) -> RetrieveRequest {
    RetrieveRequest { context: Some(Context { page, ..Context::DEFAULT }.into()), ..request }
}

fn source(response: &RetrieveResponse, kind: SourceKind) -> (Outcome, Vec<u32>) {
    let source = response.sources.iter().find(|s| s.source == u32::from(kind.code())).unwrap();
    (Outcome::from_code(source.outcome).unwrap(), source.items.clone())
}

/// Asks again until the answer is as wished; a minute is for machines that are very busy.
async fn until(
    client: &mut RetrievalServiceClient<Channel>,
    request: RetrieveRequest,
    wished: impl Fn(&RetrieveResponse) -> bool,
) -> RetrieveResponse {
    for _ in 0..6_000 {
        let answer = client.retrieve(request.clone()).await.unwrap().into_inner();
        if wished(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the answer never came");
}

async fn wait(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{what}: not in a minute");
}

async fn in_graphs(f: &Fixture) {
    wait("all items are in graphs", || f.retriever.view().index.pin().in_graphs() == ITEMS).await;
}

const WESTERN: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn every_source_that_has_something_to_go_by_answers() {
    let mut f = start(&config()).await;
    let liked = [5, 11, 17, 23, 29];
    let answer = f.client.retrieve(home(&liked)).await.unwrap().into_inner();
    assert_eq!(answer.sources.len(), SourceKind::ALL.len());
    for kind in [
        SourceKind::Neighbours,
        SourceKind::SimilarToRecent,
        SourceKind::Trending,
        SourceKind::Fresh,
        SourceKind::CohortFavourites,
    ] {
        let (outcome, items) = source(&answer, kind);
        assert_eq!(outcome, Outcome::Ok, "{}", kind.as_str());
        assert!(!items.is_empty() && items.len() <= 50, "{}", kind.as_str());
        assert_eq!(items.iter().collect::<HashSet<_>>().len(), items.len(), "{} repeats itself", kind.as_str());
    }
    assert_eq!(source(&answer, SourceKind::Related).0, Outcome::NotAsked);
    assert_eq!(source(&answer, SourceKind::Search).0, Outcome::NotAsked);
    assert_eq!(answer.index, f.retriever.view().index.pin().hash().to_vec());

    let (_, neighbours) = source(&answer, SourceKind::Neighbours);
    let of_taste = neighbours[..20].iter().filter(|ix| taste(ItemIx(**ix)) == WESTERN).count();
    assert!(of_taste >= 8, "{of_taste} of 20 neighbours are of the visitor's taste, by chance 3");
    let (_, similar) = source(&answer, SourceKind::SimilarToRecent);
    assert!(liked.iter().all(|item| !similar.contains(item)));

    let product = RetrieveRequest { item: 17, ..page(attune_domain::PageType::Product, home(&[])) };
    let answer = f.client.retrieve(product).await.unwrap().into_inner();
    let (outcome, related) = source(&answer, SourceKind::Related);
    assert_eq!(outcome, Outcome::Ok);
    assert!(!related.contains(&17));
    let of_taste = related[..10].iter().filter(|ix| taste(ItemIx(**ix)) == WESTERN).count();
    assert!(of_taste >= 5, "{of_taste} of 10 related items are of the item's taste, by chance 2");

    let search =
        RetrieveRequest { query: "horror number 8".into(), ..page(attune_domain::PageType::Search, home(&[])) };
    let answer = f.client.retrieve(search).await.unwrap().into_inner();
    assert_eq!(source(&answer, SourceKind::Search).1[0], 8);
}

/// What an exact search finds, best first.
fn exact(serving: &SharedServing, vector: &[f32]) -> Vec<u32> {
    let items = serving.load().items.clone();
    let score = |ix| items.vector(ItemIx(ix)).iter().zip(vector).map(|(a, b)| a * b).sum::<f32>();
    let mut all: Vec<(f32, u32)> = (0..ITEMS as u32).map(|ix| (score(ix), ix)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.into_iter().map(|(_, ix)| ix).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn recall_is_told_as_the_answers_had_it() {
    const QUERIES: u32 = 200;
    const DEPTH: usize = 10;
    let mut config = config();
    // So poor a graph that it misses some.
    (config.index.links, config.index.ef_construction, config.index.ef) = (2, 8, 1);
    (config.index.exact_below, config.index.seal_at) = (50, 100);
    config.shadow.share = 1.0;
    let mut f = start(&config).await;
    in_graphs(&f).await;
    let told = |f: &Fixture, series: &str| {
        let series = format!("model_recall_score{series},model_version=\"{}\"}}", world().bundle.version());
        f.recorded.metrics().lines().find_map(|line| line.strip_prefix(&series)?.trim().parse::<f64>().ok())
    };
    let mut found = 0;
    for n in 0..QUERIES {
        let request = RetrieveRequest { limit: DEPTH as u32, ..home(&[n, n / 2 + 7, n / 3 + 50]) };
        let best = &exact(&f.serving, &request.user_vector)[..DEPTH];
        let (_, neighbours) = source(&f.client.retrieve(request).await.unwrap().into_inner(), SourceKind::Neighbours);
        found += neighbours.iter().filter(|ix| best.contains(ix)).count();
        wait("the query is repeated", || told(&f, "_samples{k=\"10\"") == Some(f64::from(n + 1))).await;
    }
    let true_recall = found as f64 / f64::from(QUERIES) / DEPTH as f64;
    assert!((0.3..0.99).contains(&true_recall), "{true_recall} leaves nothing to tell");
    let recall = told(&f, "{k=\"10\"").unwrap();
    assert!((recall - true_recall).abs() < 1e-6, "{recall} was told, {true_recall} is true");
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_are_those_of_an_exact_search_before_and_after_the_graph() {
    let mut config = config();
    config.index.exact_below = 50;
    config.index.seal_at = 100;
    let folder = tempfile::tempdir().unwrap();
    config.index.snapshots = folder.path().to_owned();
    let mut f = start(&config).await;
    let request = home(&[2, 8, 14]);
    let best: HashSet<u32> = exact(&f.serving, &request.user_vector).into_iter().take(50).collect();
    let recall = |answer: &RetrieveResponse| {
        source(answer, SourceKind::Neighbours).1.iter().filter(|ix| best.contains(ix)).count()
    };
    until(&mut f.client, request.clone(), |answer| recall(answer) >= 49).await;
    in_graphs(&f).await;
    let answer = f.client.retrieve(request.clone()).await.unwrap().into_inner();
    assert!(recall(&answer) >= 48, "{} of 50 through the graph", recall(&answer));

    let snapshot = folder.path().join(format!("{}.index", world().bundle.version()));
    while !snapshot.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut again = start(&config).await;
    let from_snapshot = again.client.retrieve(request.clone()).await.unwrap().into_inner();
    assert_eq!(from_snapshot.index, answer.index, "the snapshot is the index");
    assert_eq!(source(&from_snapshot, SourceKind::Neighbours), source(&answer, SourceKind::Neighbours));

    let mut bytes = std::fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&snapshot, bytes).unwrap();
    let mut rebuilt = start(&config).await;
    let answer = rebuilt.client.retrieve(request).await.unwrap().into_inner();
    assert!(recall(&answer) >= 49, "a damaged snapshot is rebuilt from the item table");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_item_leaves_every_source_and_a_new_one_comes() {
    let mut f = start(&config()).await;
    let request = RetrieveRequest {
        query: "western".into(),
        limit: 400,
        ..page(attune_domain::PageType::Search, home(&[5, 11, 17]))
    };
    let before = f.client.retrieve(request.clone()).await.unwrap().into_inner();
    let gone = source(&before, SourceKind::Neighbours).1[0];
    let everywhere =
        |answer: &RetrieveResponse, item: u32| answer.sources.iter().filter(|s| s.items.contains(&item)).count();
    assert!(everywhere(&before, gone) >= 2);
    let withdrawn = attune_domain::Item { available: false, ..world::item(gone as usize) };
    let new = attune_domain::Item { title: "Unheard of western".into(), ..world::item(ITEMS + WESTERN) };
    let new = attune_domain::Item { id: Id::new("new").unwrap(), ..new };
    append_items(&*f.log, [(gone, withdrawn), (ITEMS as u32, new)]).await;
    let ix = ITEMS as u32;
    let after = until(&mut f.client, request, |answer| {
        everywhere(answer, gone) == 0 && source(answer, SourceKind::Search).1.contains(&ix)
    })
    .await;
    assert_eq!(source(&after, SourceKind::Fresh).1[0], ix, "new in the catalogue comes first");
    assert!(source(&after, SourceKind::Neighbours).1.contains(&ix), "it has a vector from its content");
}

#[tokio::test(flavor = "multi_thread")]
async fn trending_follows_live_events_only() {
    let mut f = start(&config()).await;
    let request = home(&[]);
    let before = f.client.retrieve(request.clone()).await.unwrap().into_inner();
    let favourites: Vec<u32> = world().bundle.cohorts().global_favourites().iter().map(|ix| ix.0).take(50).collect();
    assert_eq!(source(&before, SourceKind::Trending).1, favourites, "favourites before any live event");
    let event = |n: u32, item: u32, imported| {
        let event = LoggedEvent {
            uid: world::uid(n.into()),
            event_id: Id::new(&format!("e{n}")).unwrap(),
            kind: EventKind::Click,
            item_id: Id::new(&format!("i{item}")).unwrap(),
            item: ItemIx(item),
            request_id: None,
            position: None,
            occurred_at: NOW,
            accepted_at: NOW,
            value: 1.0,
            imported,
            in_decision: false,
            decided: None,
        };
        let record = wire::UserRecord {
            uid: event.uid.0.to_vec().into(),
            record: Some(wire::user_record::Record::Event((&event).into())),
            schema: 0,
        };
        let value = record.encode_to_vec().into();
        (Record { key: event.uid.0.to_vec().into(), value, traceparent: String::new() }, None)
    };
    let torn = Record { key: "k".into(), value: vec![0xff; 9].into(), traceparent: String::new() };
    let mut events = vec![(torn, None)];
    events.extend((0..9).map(|n| event(n, 300, true)));
    events.extend((10..13).map(|n| event(n, 301, false)));
    // What stands on the topic again counts once.
    events.extend((0..9).map(|_| event(20, 302, false)));
    f.log.append(Topic::UserEvents, events).await.unwrap();
    until(&mut f.client, request, |answer| source(answer, SourceKind::Trending).1 == [301, 302]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_by_name() {
    let mut f = start(&config()).await;
    let good = home(&[1]);
    let long = "x".repeat(600);
    let cases: [(&str, Code, RetrieveRequest); 8] = [
        ("model_version", Code::FailedPrecondition, RetrieveRequest { model_version: "other".into(), ..good.clone() }),
        ("user_vector", Code::InvalidArgument, RetrieveRequest { user_vector: vec![1.0; 3], ..good.clone() }),
        ("user_vector", Code::InvalidArgument, {
            RetrieveRequest { user_vector: vec![f32::NAN; good.user_vector.len()], ..good.clone() }
        }),
        ("cluster", Code::InvalidArgument, RetrieveRequest { cluster: 4_000, ..good.clone() }),
        ("cluster", Code::InvalidArgument, RetrieveRequest { cluster: u32::MAX, ..good.clone() }),
        ("limit", Code::InvalidArgument, RetrieveRequest { limit: 0, ..good.clone() }),
        ("limit", Code::InvalidArgument, RetrieveRequest { limit: u32::MAX, ..good.clone() }),
        ("query", Code::InvalidArgument, {
            page(attune_domain::PageType::Search, RetrieveRequest { query: long, ..good.clone() })
        }),
    ];
    for (field, code, request) in cases {
        let status = f.client.retrieve(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{field}: {}", status.message());
        assert!(status.message().starts_with(field), "{}", status.message());
    }
    let strange = RetrieveRequest {
        recent_items: vec![u32::MAX, 1_000_000, 5],
        item: 1_000_000,
        ..page(attune_domain::PageType::Product, good)
    };
    let answer = f.client.retrieve(strange).await.unwrap().into_inner();
    assert_eq!(source(&answer, SourceKind::SimilarToRecent).0, Outcome::Ok, "items it does not know yet are left out");
}

/// A source that behaves as told.
struct Odd(SourceKind, fn(&Look<'_>) -> Result<Vec<ItemIx>, SourceError>);

impl CandidateSource for Odd {
    fn kind(&self) -> SourceKind {
        self.0
    }

    fn work(&self) -> Work {
        Work::Heavy
    }

    fn is_asked(&self, _: &Ask) -> bool {
        true
    }

    fn find(&self, look: &Look<'_>) -> Result<Vec<ItemIx>, SourceError> {
        (self.1)(look)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_failing_and_panicking_sources_cost_only_themselves() {
    let (recorded, serving) = (recorded("retrieval"), serving());
    let mut config = config();
    config.threads = 4;
    config.deadlines.neighbours = HumanDuration::millis(60);
    let odd: Vec<Arc<dyn CandidateSource>> = vec![
        Arc::new(Odd(SourceKind::Neighbours, |look| {
            while !(look.late)() {
                std::thread::yield_now();
            }
            Err(SourceError::Late)
        })),
        Arc::new(Odd(SourceKind::SimilarToRecent, |_| Err(SourceError::Failed("on purpose")))),
        Arc::new(Odd(SourceKind::Related, |_| panic!("on purpose"))),
        Arc::new(Odd(SourceKind::Search, |_| Ok(vec![ItemIx(3), ItemIx(1_000_000)]))),
        Arc::new(sources::Fresh),
    ];
    let view = View::derive(serving.load_full(), None, &config.index(), None).unwrap();
    let metrics = RetrievalMetrics::register(&recorded.telemetry);
    let retriever = Retriever::new(serving, view, odd, &config, metrics);
    let ask = || Ask { limit: 10, ..Ask::default() };
    let found = retriever.retrieve(&Scope::detached(), ask(), "", Duration::from_secs(5)).await.unwrap();
    let outcome = |kind: SourceKind| -> &SourceItems { found.sources.iter().find(|s| s.source == kind).unwrap() };
    assert_eq!(outcome(SourceKind::Neighbours).outcome, Outcome::Late);
    assert_eq!(outcome(SourceKind::SimilarToRecent).outcome, Outcome::Failed);
    assert_eq!(outcome(SourceKind::Related).outcome, Outcome::Failed);
    assert_eq!(outcome(SourceKind::Search).items, [ItemIx(3)], "an item nobody knows is not in the answer");
    assert_eq!((outcome(SourceKind::Fresh).outcome, outcome(SourceKind::Fresh).items.len()), (Outcome::Ok, 10));
    let none = retriever.retrieve(&Scope::detached(), ask(), "", Duration::ZERO).await.unwrap();
    assert!(none.sources.iter().all(|s| s.outcome == Outcome::Late && s.items.is_empty()), "{none:?}");
    assert!(recorded.metrics().contains(r#"retrieval_source_outcomes_total{outcome="late",source="neighbours"} 2"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_and_metrics_are_those_of_the_contract() {
    let mut f = start(&config()).await;
    let index = f.retriever.view().index.pin().hash();
    f.client.retrieve(home(&[5, 11])).await.unwrap();
    let metrics = f.recorded.metrics();
    assert!(metrics.contains(r#"vectordb_queries_total{operation="search"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"vectordb_latency_seconds_count{operation="search"} 2"#));
    assert!(metrics.contains(r#"retrieval_requests_total"#));
    drop((f.client, f.retriever));
    let spans = f.recorded.spans();
    let candidates = spans.iter().find(|span| span["name"] == "retrieval.candidates").expect("the server span");
    assert_eq!(attribute(candidates, "sources").as_deref(), Some("5"));
    assert!(attribute(candidates, "candidate_count").unwrap().parse::<u32>().unwrap() > 100);
    let searches: Vec<_> = spans.iter().filter(|span| span["name"] == "retrieval.ann_search").collect();
    assert_eq!(searches.len(), 2);
    for search in searches {
        assert_eq!(search["parentSpanId"], candidates["spanId"]);
        assert_eq!(attribute(search, "top_k").as_deref(), Some("50"));
        assert!(attribute(search, "latency").unwrap().parse::<f64>().unwrap() > 0.0);
        let hex: String = index[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(attribute(search, "index"), Some(hex));
    }
}
