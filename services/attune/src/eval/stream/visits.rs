//! Nine days of visits, as fast as the platform answers.
//!
//! The clock is moved to each visit's time when it begins, and never back. A visitor has one request at a time.

use crate::output::progress_bar;
use crate::simulate::client::EdgeClient;
use crate::simulate::rfc3339;
use crate::simulate::wire::{Ask, AskContext, Batch, Event};
use anyhow::Context as _;
use attune_dataset::world::SLATE;
use attune_dataset::{Visitor, World};
use attune_domain::{Context, EventKind, ItemIx, PageType, RequestId, UnixMillis};
use attune_runtime::{Exit, OrExit as _};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

pub(super) const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// Share of visitors who get the baseline, and of slots that are filled evenly.
pub(super) const HOLDOUT: f64 = 0.3;
pub(super) const UNIFORM: f64 = 0.05;
/// Visitors of the first day, and the share of them who come on one of the seven days after it.
const FIRST: u32 = 1_200;
pub(super) const RETURNS: f64 = 0.6;
/// Pages of the last hour, one in ten of them for somebody whom the history does not know.
pub(super) const PAGES: usize = 6_500;
const NEWCOMERS: u32 = 300;
/// Items that are new on the last day.
const NEW_ITEMS: u32 = 40;
/// Visits of the last hour at a time. Before it the clock leaps from visit to visit, so there is one.
const AT_A_TIME: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(30);

/// When what happens.
pub(super) struct Timeline {
    /// The history ends, the platform opens.
    pub(super) begins: UnixMillis,
    first_day: UnixMillis,
    pub(super) ends: UnixMillis,
}

impl Timeline {
    pub(super) fn of(world: &World) -> Self {
        let begins = world.config().catalogue_at + super::super::WORLD_AGE;
        let first_day = (begins.div_euclid(DAY_MS) + 1) * DAY_MS;
        // Within sub-windows, not between two: which pages a window has depends on no haste.
        Self { begins, first_day, ends: first_day + 8 * DAY_MS + 12 * HOUR_MS + 52 * 60_000 + 30_000 }
    }

    /// Times and visitors, in order.
    fn visits(&self, world: &World, rng: &mut ChaCha8Rng) -> Vec<(UnixMillis, u32)> {
        let known = world.config().users;
        let mut visits = Vec::new();
        for user in 0..FIRST.min(known) {
            let of_day = |rng: &mut ChaCha8Rng| rng.random_range(8 * HOUR_MS..20 * HOUR_MS);
            visits.push((self.first_day + of_day(rng), user));
            if rng.random_bool(RETURNS) {
                visits.push((self.first_day + rng.random_range(1..=7) * DAY_MS + of_day(rng), user));
            }
        }
        for page in 0..PAGES {
            let at = self.ends - HOUR_MS + HOUR_MS * page as i64 / PAGES as i64;
            let user = match page % 10 {
                0 => known + rng.random_range(0..NEWCOMERS),
                _ => rng.random_range(0..known),
            };
            visits.push((at, user));
        }
        visits.sort_unstable();
        visits
    }
}

/// Who was shown a page, and in which circumstances.
pub(super) struct Page {
    pub(super) user: u32,
    pub(super) context: Context,
}

pub(super) struct NewItem {
    pub(super) category: String,
    pub(super) created_at: UnixMillis,
}

pub(super) struct Visits {
    pub(super) pages: HashMap<RequestId, Page>,
    /// Acknowledged.
    pub(super) impressions: u64,
    /// In the order of their numbers, after the world's.
    pub(super) items: Vec<NewItem>,
}

struct Shared {
    world: Arc<World>,
    client: EdgeClient,
    time: Arc<AtomicI64>,
    visitors: Vec<Mutex<Visitor>>,
    visits: Vec<(UnixMillis, u32)>,
    next: AtomicUsize,
    impressions: AtomicU64,
    pages: Mutex<HashMap<RequestId, Page>>,
}

pub(super) async fn pass(
    edge: &str,
    admin: &str,
    world: &Arc<World>,
    timeline: &Timeline,
    time: &Arc<AtomicI64>,
) -> anyhow::Result<Visits> {
    let seed = world.config().seed;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut early = timeline.visits(world, &mut rng);
    let late = early.split_off(early.partition_point(|(at, _)| *at < timeline.ends - HOUR_MS));
    let everybody = world.config().users + NEWCOMERS;
    let mut shared = Shared {
        world: Arc::clone(world),
        client: EdgeClient::new(edge, TIMEOUT).or_exit(Exit::Internal)?,
        time: Arc::clone(time),
        visitors: (0..everybody).map(|user| Mutex::new(world.visitor(user, seed))).collect(),
        visits: early,
        next: AtomicUsize::new(0),
        impressions: AtomicU64::new(0),
        pages: Mutex::default(),
    };
    let bar = progress_bar("nine days", (shared.visits.len() + late.len()) as u64);
    shared = shared.walk(1, &bar).await?;
    let shop = EdgeClient::new(admin, TIMEOUT).or_exit(Exit::Internal)?;
    let items = new_items(&shop, world, timeline, time).await?;
    for user in world.config().users..everybody {
        let stated = shop.state_user(&world.user_raw_id(user), &world.attributes(user)).await;
        stated.context("state a visitor's attributes").or_exit(Exit::TryLater)?;
    }
    (shared.visits, shared.next) = (late, AtomicUsize::new(0));
    shared = shared.walk(AT_A_TIME, &bar).await?;
    bar.finish_and_clear();
    time.fetch_max(timeline.ends, Ordering::Relaxed);
    Ok(Visits { pages: shared.pages.into_inner(), impressions: shared.impressions.into_inner(), items })
}

/// Puts items that no visitor wants and no model knows into the catalogue.
async fn new_items(
    shop: &EdgeClient,
    world: &World,
    timeline: &Timeline,
    time: &AtomicI64,
) -> anyhow::Result<Vec<NewItem>> {
    let mut items = Vec::new();
    for n in 0..NEW_ITEMS {
        let created_at = timeline.ends - 20 * HOUR_MS + i64::from(n) * 60_000;
        time.fetch_max(created_at, Ordering::Relaxed);
        let category = world.items()[n as usize].categories.first().map_or(String::new(), ToString::to_string);
        let item = json!({"title": format!("New {n}"), "categories": [category], "created_at": rfc3339(created_at)});
        let put = shop.put(&format!("/v1/items/new-{n}"), &item).await;
        put.context("put an item into the catalogue").or_exit(Exit::TryLater)?;
        items.push(NewItem { category, created_at });
    }
    Ok(items)
}

impl Shared {
    async fn walk(self, at_a_time: usize, bar: &indicatif::ProgressBar) -> anyhow::Result<Self> {
        let shared = Arc::new(self);
        let mut workers = JoinSet::new();
        for _ in 0..at_a_time {
            let (shared, bar) = (Arc::clone(&shared), bar.clone());
            workers.spawn(async move {
                loop {
                    let number = shared.next.fetch_add(1, Ordering::Relaxed);
                    let Some(&(at, user)) = shared.visits.get(number) else { return anyhow::Ok(()) };
                    shared.visit(number, at, user).await?;
                    bar.inc(1);
                }
            });
        }
        while let Some(ended) = workers.join_next().await {
            ended.context("visit")??;
        }
        Arc::into_inner(shared).context("end the visits")
    }

    async fn visit(&self, number: usize, at: UnixMillis, user: u32) -> anyhow::Result<()> {
        let mut visitor = self.visitors[user as usize].lock().await;
        self.time.fetch_max(at, Ordering::Relaxed);
        let context = Context { page: PageType::Home, ..visitor.next_context() };
        let user_id = self.world.user_raw_id(user);
        let ask = Ask {
            user_id: &user_id,
            page_type: context.page.as_str(),
            limit: SLATE,
            item_id: None,
            query: None,
            context: AskContext { device: context.device.as_str(), geo: context.geo.as_str(), session_id: &user_id },
        };
        let asked = self.client.personalize(&ask, 0).await;
        let (answer, _) = asked.with_context(|| format!("ask for {user_id}")).or_exit(Exit::TryLater)?;
        let request = RequestId::parse(&answer.request_id).context("read a request's id")?;
        let slate: Vec<ItemIx> =
            answer.items.iter().map(|item| self.world.find(&item.item_id).unwrap_or(ItemIx::UNKNOWN)).collect();
        let visit = visitor.react(&self.world, &slate, context);
        let shown_at = self.time.load(Ordering::Relaxed);
        let mut events: Vec<Event> = Vec::with_capacity(slate.len() + visit.actions.len());
        let mut tell = |kind: EventKind, position: usize, value: Option<f32>| {
            let place = events.len();
            events.push(Event {
                event_id: format!("{at}-{user}-{number}-{place}"),
                r#type: kind.as_str(),
                user_id: user_id.clone(),
                item_id: answer.items[position].item_id.clone(),
                request_id: answer.request_id.clone(),
                position,
                occurred_at: rfc3339(shown_at),
                value,
            });
        };
        (0..slate.len()).for_each(|position| tell(EventKind::Impression, position, None));
        for action in &visit.actions {
            let value = matches!(action.kind, EventKind::Dwell | EventKind::Conversion).then_some(action.value);
            tell(action.kind, action.position.into(), value);
        }
        let sent = events.len() as u64;
        let receipt = self.client.feedback(&Batch { events }).await.context("give feedback").or_exit(Exit::TryLater)?;
        anyhow::ensure!(receipt.accepted == sent, "{} of {sent} events of {user_id} were accepted", receipt.accepted);
        self.impressions.fetch_add(slate.len() as u64, Ordering::Relaxed);
        self.pages.lock().await.insert(request, Page { user, context });
        Ok(())
    }
}
