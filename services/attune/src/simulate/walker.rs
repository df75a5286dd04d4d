//! One visitor: ask, look, click, say so, think, again.

use super::client::{EdgeClient, Failure};
use super::report::Example;
use super::tally::{Tally, Visited, Worth};
use super::wire::{Answer, Ask, AskContext, Batch, Event};
use super::{Newcomers, Pace, Shop};
use attune_dataset::world::Visit;
use attune_dataset::{Visitor, World};
use attune_domain::{Context, EventKind, ItemIx, PageType, Variant};
use attune_runtime::Clock;
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep};

const SLATE: usize = attune_dataset::world::SLATE;
/// One visitor in so many is new to the world's history.
const NEWCOMERS: usize = 5;
const EXAMPLES: usize = 4;
const EXAMPLE_TITLES: usize = 4;
/// Tries of one batch of events: it carries its event ids, so that trying again counts nothing twice.
const DELIVERIES: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The oracle looks at the whole catalogue. In a larger one it is asked at a share of the visits only.
const ORACLE_ITEMS: usize = 10_000;
/// Mean of the first pause, in seconds of the visitors' time.
const STAGGER: f64 = 20.0;

/// What all visitors of a walk share.
pub(crate) struct Shared {
    /// Makes event ids differ from those of every other walk.
    pub(crate) run: String,
    pub(crate) clock: Clock,
    pub(crate) client: EdgeClient,
    pub(crate) pace: Pace,
    pub(crate) tally: Mutex<Tally>,
    pub(crate) world: Arc<World>,
    pub(crate) speed: f64,
    pub(crate) shop: Option<Arc<Shop>>,
    pub(crate) newcomers: Option<Newcomers>,
}

pub(crate) struct Walker {
    index: usize,
    shared: Arc<Shared>,
    visitor: Visitor,
    /// For what is not the visitor's choice: pauses, random slates.
    rng: ChaCha8Rng,
    user_id: String,
    likes: Vec<String>,
    visits: u64,
    /// The item opened last, which a product page is about.
    opened: Option<ItemIx>,
    /// Everything opened in this walk: a platform does not show it again, so neither does the oracle.
    seen: HashSet<ItemIx>,
    /// Newest state version that an answer told of.
    version: u64,
}

impl Walker {
    pub(crate) fn new(index: usize, seed: u64, shared: Arc<Shared>) -> Self {
        let world = &shared.world;
        let n = match &shared.newcomers {
            Some(newcomers) => newcomers.next(world),
            None => number(index, world.config().users),
        };
        let visitor = world.visitor(n, seed);
        Self {
            index,
            rng: ChaCha8Rng::seed_from_u64(seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            user_id: world.user_raw_id(n),
            likes: favourites(world, n, &visitor),
            visitor,
            visits: 0,
            opened: None,
            seen: HashSet::new(),
            version: 0,
            shared,
        }
    }

    /// Never returns; the caller drops it.
    pub(crate) async fn walk(mut self) {
        self.begin().await;
        let mut failures = 0u32;
        loop {
            if self.shared.newcomers.as_ref().is_some_and(|newcomers| self.visits >= newcomers.visits) {
                let seed = self.rng.random();
                self = Self::new(self.index, seed, self.shared.clone());
                self.begin().await;
            }
            match self.visit().await {
                Ok(()) => failures = 0,
                Err(failure) => {
                    failures += 1;
                    let back_off = self.back_off(failure, failures);
                    sleep(back_off).await;
                }
            }
        }
    }

    /// The shop hears of a new visitor before the first page.
    async fn begin(&mut self) {
        if let Some(shop) = &self.shared.shop
            && self.visitor.user() >= self.shared.world.config().users
        {
            shop.states(&self.user_id, &self.visitor.attributes()).await;
        }
        let stagger = self.rng.random_range(0.0..STAGGER);
        self.pause(Duration::from_secs_f64(stagger)).await;
    }

    async fn visit(&mut self) -> Result<(), Failure> {
        let context = self.next_context();
        let answer = self.ask(context).await?;
        let shown_at = (self.shared.clock)();
        self.visits += 1;

        let world = self.shared.world.clone();
        let slate: Vec<ItemIx> =
            answer.items.iter().map(|item| world.find(&item.item_id).unwrap_or(ItemIx::UNKNOWN)).collect();
        let visit = self.visitor.react(&world, &slate, context);
        let batch = self.events(&answer, &visit, shown_at);
        self.record(context, &answer, &slate, &visit);
        for action in visit.actions.iter().filter(|action| action.kind == EventKind::Click) {
            self.opened = Some(action.item);
            self.seen.insert(action.item);
        }

        // What happened is told when it has happened.
        let took = visit.actions.last().map_or(Duration::ZERO, |action| action.after);
        self.pause(took).await;
        if !batch.events.is_empty() {
            self.deliver(&batch).await;
        }
        self.pause(visit.think).await;
        Ok(())
    }

    /// A product page needs a product; whoever has opened none yet stays at home.
    fn next_context(&mut self) -> Context {
        let context = self.visitor.next_context();
        match (context.page, self.opened) {
            (PageType::Product, None) => Context { page: PageType::Home, ..context },
            _ => context,
        }
    }

    async fn ask(&mut self, context: Context) -> Result<Answer, Failure> {
        let session = format!("{}-{}", self.user_id, self.visits / 8);
        let item = self.opened.filter(|_| context.page == PageType::Product);
        let ask = Ask {
            user_id: &self.user_id,
            page_type: context.page.as_str(),
            limit: SLATE,
            item_id: item.and_then(|ix| self.shared.world.items().get(ix.index())).map(|item| item.id.as_str()),
            query: self.likes.first().map(String::as_str).filter(|_| context.page == PageType::Search),
            context: AskContext { device: context.device.as_str(), geo: context.geo.as_str(), session_id: &session },
        };
        self.shared.pace.turn().await;
        self.shared.tally.lock().asked();
        let begin = Instant::now();
        let result = self.shared.client.personalize(&ask, self.version).await;
        let result = result.and_then(|(answer, version)| match answer.items.len() <= SLATE {
            true => Ok((answer, version)),
            false => Err(Failure::Malformed),
        });
        let mut tally = self.shared.tally.lock();
        match result {
            Ok((answer, version)) => {
                tally.answered(self.index, &answer, begin.elapsed());
                drop(tally);
                self.version = version;
                Ok(answer)
            }
            Err(failure) => {
                tally.failed(failure);
                Err(failure)
            }
        }
    }

    /// An impression per slot, then what the visitor did, in order of time.
    fn events(&self, answer: &Answer, visit: &Visit, shown_at: i64) -> Batch {
        let visit_id = format!("{}-{}-{}", self.shared.run, self.index, self.visits);
        let event = |kind: EventKind, position: usize, at: i64, value: Option<f32>, number: usize| Event {
            event_id: format!("{visit_id}-{number}"),
            r#type: kind.as_str(),
            user_id: self.user_id.clone(),
            item_id: answer.items[position].item_id.clone(),
            request_id: answer.request_id.clone(),
            position,
            occurred_at: rfc3339(at),
            value,
        };
        let mut events: Vec<Event> = (0..answer.items.len())
            .map(|position| event(EventKind::Impression, position, shown_at, None, position))
            .collect();
        let mut at = shown_at;
        for action in visit.actions.iter().filter(|a| usize::from(a.position) < answer.items.len()) {
            let after = action.after.as_secs_f64() * 1e3 / self.shared.speed;
            at = (shown_at + after as i64).max(at + 1);
            let value = matches!(action.kind, EventKind::Dwell | EventKind::Conversion).then_some(action.value);
            events.push(event(action.kind, usize::from(action.position), at, value, events.len()));
        }
        Batch { events }
    }

    fn record(&mut self, context: Context, answer: &Answer, slate: &[ItemIx], visit: &Visit) {
        let world = &self.shared.world;
        let user = self.visitor.user();
        let known: Vec<ItemIx> = slate.iter().copied().filter(|ix| ix.is_known()).collect();
        let expected = world.expected_ctr(user, context, slate);
        let every = (world.items().len() / ORACLE_ITEMS).max(1) as u64;
        let worth = (self.visits.is_multiple_of(every) && !slate.is_empty()).then(|| {
            let wanted = slate.len() + self.seen.len();
            let any = rand::seq::index::sample(&mut self.rng, world.items().len(), wanted.min(world.items().len()));
            let any: Vec<ItemIx> = any.into_iter().map(|ix| ItemIx(ix as u32)).collect();
            let best = world.oracle_slate(user, context, wanted);
            let unseen = |items: Vec<ItemIx>| -> f64 {
                let fresh = items.into_iter().filter(|ix| !self.seen.contains(ix));
                world.expected_ctr(user, context, &fresh.take(slate.len()).collect::<Vec<_>>())
            };
            Worth { shown: expected, random: unseen(any), oracle: unseen(best) }
        });
        let of_kind = |kind| visit.actions.iter().filter(move |action| action.kind == kind);
        let variant = Variant::parse(&answer.variant).unwrap_or(Variant::Treatment);
        let title = |ix: ItemIx| world.items().get(ix.index()).map(|item| item.title.clone());
        let example = (self.index < EXAMPLES || self.index == NEWCOMERS - 1).then(|| Example {
            visitor: self.user_id.clone(),
            known_to_history: user < world.config().users,
            likes: self.likes.clone(),
            variant: variant.as_str(),
            visits: 0,
            shown: known.iter().filter_map(|&ix| title(ix)).take(EXAMPLE_TITLES).collect(),
            clicked: of_kind(EventKind::Click).filter_map(|a| title(a.item)).take(EXAMPLE_TITLES).collect(),
        });
        let visited = Visited {
            index: self.index,
            variant,
            slots: slate.len() as u64,
            known_slots: known.len() as u64,
            clicks: of_kind(EventKind::Click).count() as u64,
            conversions: of_kind(EventKind::Conversion).count() as u64,
            expected,
            worth,
            example,
        };
        self.shared.tally.lock().visited(visited);
    }

    async fn deliver(&mut self, batch: &Batch) {
        for attempt in 1..=DELIVERIES {
            self.shared.pace.turn().await;
            let failure = match self.shared.client.feedback(batch).await {
                Ok(receipt) => return self.shared.tally.lock().delivered(batch.events.len(), &receipt),
                Err(failure) => failure,
            };
            self.shared.tally.lock().failed(failure);
            if !failure.may_retry() {
                break;
            }
            if attempt < DELIVERIES {
                let back_off = self.back_off(failure, attempt);
                sleep(back_off).await;
            }
        }
        self.shared.tally.lock().lost(batch.events.len());
    }

    /// Twice as long each time, at least what the edge asks for, and never the same for all visitors.
    fn back_off(&mut self, failure: Failure, failures: u32) -> Duration {
        let doubled = Duration::from_millis(250) * 2u32.pow(failures.min(6));
        let asked = match failure {
            Failure::Shed(after) => after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        doubled.max(asked).min(LONGEST_PAUSE).mul_f64(self.rng.random_range(0.75..1.25))
    }

    /// A time of the visitor's, as fast as the walk makes it.
    async fn pause(&self, time: Duration) {
        sleep(time.div_f64(self.shared.speed)).await;
    }
}

/// The world's number of the walk's visitor: known ones from 0, and every fifth beyond the history.
fn number(index: usize, users: u32) -> u32 {
    // An index is at most 100,000.
    let (group, place) = ((index / NEWCOMERS) as u32, index % NEWCOMERS);
    if place == NEWCOMERS - 1 {
        return users.saturating_add(group);
    }
    (group * (NEWCOMERS as u32 - 1) + place as u32) % users.max(1)
}

/// The three categories that the visitor's best slate holds most of.
fn favourites(world: &World, n: u32, visitor: &Visitor) -> Vec<String> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for item in world.oracle_slate(n, visitor.traits().usual_context(), SLATE) {
        for category in &world.items()[item.index()].categories {
            match counts.iter_mut().find(|(name, _)| name == category) {
                Some((_, count)) => *count += 1,
                None => counts.push((category.clone(), 1)),
            }
        }
    }
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.into_iter().take(3).map(|(name, _)| name).collect()
}

pub(crate) fn rfc3339(unix_millis: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_millis) * 1_000_000);
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fifth_visitor_is_new_and_the_others_are_all_different() {
        let numbers: Vec<u32> = (0..10).map(|index| number(index, 2_000)).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 2_000, 4, 5, 6, 7, 2_001]);
        assert!((0..100).all(|index| index % 5 == 4 || number(index, 3) < 3));
    }

    #[test]
    fn times_keep_their_milliseconds() {
        assert_eq!(rfc3339(1_769_682_600_123), "2026-01-29T10:30:00.123Z");
        assert_eq!(rfc3339(1_769_682_600_000), "2026-01-29T10:30:00Z");
    }
}
