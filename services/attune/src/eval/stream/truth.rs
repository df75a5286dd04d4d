//! What is true, from every single event and from the world.
//!
//! What was shown and done is counted exactly; where chance in visitors' clicks stands between a number and the truth,
//! the truth is the mean over that chance, and `error` the standard error that a number from these pages has.

use super::drift;
use super::exposition::Exposition;
use super::visits::{DAY_MS, RETURNS, Visits};
use super::{UNIFORM, Window};
use crate::places;
use crate::state::StateFolder;
use anyhow::Context as _;
use attune_dataset::World;
use attune_dataset::world::examination;
use attune_domain::{
    DecidedSlot, EventKind, ItemIx, LoggedEvent, RequestId, SlotKind, Uid, UnixMillis, UserAttributes, Variant,
};
use attune_proto::{convert, state::v1 as wire};
use attune_runtime::{Exit, OrExit as _};
use attune_serving::Serving;
use attune_storage::Topic;
use prost::Message as _;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

const BATCH: usize = 4_096;
const HOUR: Window = Window::minutes(5, 12);
const SIX_HOURS: Window = Window::minutes(5, 72);
const DAY: Window = Window::minutes(60, 24);
/// Slots that NDCG@10 looks at.
const DEPTH: u16 = 10;
/// Impressions that make a new item seen.
const WARM: usize = 10;
const FRESH_MS: i64 = 7 * DAY_MS;
const CALIBRATION_BINS: usize = 15;
/// An arm with fewer pulls says nothing of the best arm.
const LEAST_PULLS: f64 = 50.0;

/// A metric beside the truth.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) metric: String,
    /// None where the platform does not show it.
    pub(super) value: Option<f64>,
    /// The platform's own, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interval: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) samples: Option<f64>,
    /// None where the world has no say, as in what the bandit believes: then being there is all that is asked.
    pub(super) truth: Option<f64>,
    /// How many standard errors the truth is away: by the platform's interval, else by the truth's own.
    pub(super) errors: Option<f64>,
}

/// What a run left behind.
pub(super) struct Seen<'a> {
    pub(super) world: &'a World,
    pub(super) visits: &'a Visits,
    pub(super) log: &'a [LoggedEvent],
    pub(super) serving: &'a Serving,
    pub(super) until: UnixMillis,
}

/// All events of a stopped platform, imported ones included, and its model with the last catalogue.
pub(super) async fn read(state: &StateFolder) -> anyhow::Result<(Vec<LoggedEvent>, Serving)> {
    let log = places::stopped_event_log(state).await?;
    let bundle = state.bundle().context("find the live bundle")?;
    let serving = attune_serving::open(&bundle, &*log, super::PATIENCE).await.or_exit(Exit::Data)?;
    let mut events = Vec::new();
    let mut next = log.bounds(Topic::UserEvents).await.context("read the event log")?.start;
    loop {
        let found = log.read(Topic::UserEvents, next, BATCH, Duration::ZERO).await.context("read the event log")?;
        let Some((last, _)) = found.last() else { return Ok((events, serving)) };
        next = last + 1;
        for (_, record) in found {
            let record = wire::UserRecord::decode(record.value).context("read an event")?;
            let uid = convert::uid(&record.uid).context("read an event")?;
            if let Some(wire::user_record::Record::Event(event)) = record.record {
                events.push(convert::event(uid, &event).context("read an event")?);
            }
        }
    }
}

/// Something shown, with what the world knows of it.
pub(super) struct Shown<'a> {
    pub(super) event: &'a LoggedEvent,
    pub(super) slot: DecidedSlot,
    pub(super) request: RequestId,
    pub(super) at: UnixMillis,
    /// Probability of a click there and then.
    click: f64,
    seen_before: bool,
}

pub(super) struct Truth {
    pub(super) value: f64,
    pub(super) error: f64,
}

fn exact(value: f64) -> Truth {
    Truth { value, error: 0.0 }
}

/// A share that is the mean of draws of probability `p`.
fn drawn(p: f64, n: f64) -> Truth {
    Truth { value: p, error: (p * (1.0 - p) / n).sqrt() }
}

pub(super) fn rows(seen: &Seen<'_>, exposition: &Exposition) -> Vec<Row> {
    let shown = shown(seen);
    let mut rows = Rows { exposition, rows: Vec::new() };
    totals(seen, &shown, &mut rows);
    effects(seen, &shown, &mut rows);
    content(seen, &shown, &mut rows);
    exploration(seen, &shown, &mut rows);
    items(seen, &shown, &mut rows);
    models(seen, &shown, &mut rows);
    embeddings(seen, &shown, &mut rows);
    drifts(seen, &shown, &mut rows);
    live(seen, &mut rows);
    rows.rows
}

struct Rows<'a> {
    exposition: &'a Exposition,
    rows: Vec<Row>,
}

impl Rows<'_> {
    fn add(&mut self, name: &str, labels: &str, truth: impl Into<Option<Truth>>) {
        let truth = truth.into();
        let of = |suffix: &str| {
            let series = format!("{name}{suffix}");
            self.exposition.value(&if labels.is_empty() { series } else { format!("{series}{{{labels}}}") })
        };
        let (value, low, high, samples) = (of(""), of("_ci_low"), of("_ci_high"), of("_samples"));
        let interval = low.zip(high).map(|(low, high)| [low, high]);
        let errors = value.map(|value| {
            let Some(truth) = &truth else { return 0.0 };
            let off = truth.value - value;
            let error = match interval {
                Some([low, _]) if off < 0.0 => (value - low) / super::INTERVAL,
                Some([_, high]) => (high - value) / super::INTERVAL,
                None => truth.error,
            };
            // What is exact may differ by rounding.
            if off.abs() <= 1e-6 * truth.value.abs().max(1.0) { 0.0 } else { off.abs() / error }
        });
        let metric = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") };
        self.rows.push(Row { metric, value, interval, samples, truth: truth.map(|truth| truth.value), errors });
    }
}

/// Impressions of decisions, each once.
fn shown<'a>(seen: &Seen<'a>) -> Vec<Shown<'a>> {
    let (mut once, mut before) = (HashSet::new(), HashSet::new());
    let mut shown = Vec::new();
    for event in seen.log.iter().filter(|event| !event.imported && event.kind == EventKind::Impression) {
        let (Some(request), Some(slot)) = (event.request_id, event.decided) else { continue };
        let Some(page) = seen.visits.pages.get(&request).filter(|_| once.insert((request, event.item))) else {
            continue;
        };
        let click = seen.world.click_probability(page.user, page.context, event.item, slot.position.into());
        let seen_before = !before.insert((event.uid, event.item));
        shown.push(Shown { event, slot, request, at: request.unix_millis(), click, seen_before });
    }
    shown
}

/// Events of a kind that answer to something shown, each once.
fn outcomes<'a>(seen: &Seen<'a>, kind: EventKind) -> impl Iterator<Item = &'a LoggedEvent> {
    let mut once = HashSet::new();
    let decided = |event: &&LoggedEvent| !event.imported && event.decided.is_some();
    seen.log
        .iter()
        .filter(decided)
        .filter(move |event| event.kind == kind && once.insert((event.request_id, event.item)))
}

fn is_personalized(slot: DecidedSlot) -> bool {
    slot.variant == Variant::Treatment
}

fn totals(seen: &Seen<'_>, shown: &[Shown<'_>], rows: &mut Rows<'_>) {
    let source = |slot: DecidedSlot| if is_personalized(slot) { "personalized" } else { "baseline" };
    for wanted in ["personalized", "baseline"] {
        let sum = |kind, value: fn(&LoggedEvent) -> f64| {
            let of = |event: &&LoggedEvent| event.decided.is_some_and(|slot| source(slot) == wanted);
            outcomes(seen, kind).filter(of).map(value).sum::<f64>()
        };
        let labels = format!("source=\"{wanted}\"");
        let impressions = shown.iter().filter(|shown| source(shown.slot) == wanted).count();
        let mut add = |name: &str, truth: f64| rows.add(name, &labels, exact(truth));
        add("personalization_impressions_total", impressions as f64);
        add("personalization_clicks_total", sum(EventKind::Click, |_| 1.0));
        add("personalization_conversions_total", sum(EventKind::Conversion, |_| 1.0));
        let seconds = |event: &LoggedEvent| (f64::from(event.value) * 1e3).round() / 1e3;
        add("personalization_engagement_seconds_total", sum(EventKind::Dwell, seconds));
        add("personalization_revenue_minor_units_total", sum(EventKind::Conversion, |e| f64::from(e.value).round()));
    }
}

fn effects(seen: &Seen<'_>, shown: &[Shown<'_>], rows: &mut Rows<'_>) {
    let ctr = |personalized: bool| {
        let of = shown.iter().filter(|s| HOUR.has(s.at, seen.until) && is_personalized(s.slot) == personalized);
        let (n, clicks) = of.fold((0.0, 0.0), |(n, clicks), shown| (n + 1.0, clicks + shown.click));
        clicks / n
    };
    // Its error is what its own interval says.
    rows.add("personalization_lift_ratio", "", exact(ctr(true) / ctr(false) - 1.0));

    let came = |event: &LoggedEvent| event.occurred_at.min(event.accepted_at);
    let live = || seen.log.iter().filter(|event| !event.imported);
    let day = |at: UnixMillis| seen.until.div_euclid(DAY_MS) - at.div_euclid(DAY_MS);
    let first: HashSet<Uid> = live().filter(|event| day(came(event)) == 8).map(|event| event.uid).collect();
    rows.add("personalization_return_ratio", "", drawn(RETURNS, first.len() as f64));
    let active: HashSet<Uid> = live().filter(|event| DAY.has(came(event), seen.until)).map(|event| event.uid).collect();
    rows.add("personalization_active_users", "", exact(active.len() as f64));
}

/// Of the personalised pages of the last hour.
fn content(seen: &Seen<'_>, shown: &[Shown<'_>], rows: &mut Rows<'_>) {
    let recent = |slot: DecidedSlot, at: UnixMillis| is_personalized(slot) && HOUR.has(at, seen.until);
    let shown: Vec<_> = shown.iter().filter(|shown| recent(shown.slot, shown.at)).collect();
    let n = shown.len() as f64;
    let mut categories: BTreeMap<&str, f64> = BTreeMap::new();
    for shown in &shown {
        *categories.entry(seen.category(shown.event.item)).or_default() += 1.0;
    }
    let pairs: f64 = categories.values().map(|count| count * (count - 1.0)).sum();
    rows.add("personalization_diversity_score", "", exact(1.0 - pairs / (n * (n - 1.0))));
    let new = shown.iter().filter(|shown| !shown.seen_before).count();
    rows.add("personalization_novelty_ratio", "", exact(new as f64 / n));
    let fresh = |shown: &&&Shown<'_>| shown.at - seen.created_at(shown.event.item) < FRESH_MS;
    rows.add("personalization_freshness_ratio", "", exact(shown.iter().filter(fresh).count() as f64 / n));

    // Sketches of popularity are 3 % wide, so that items near the bound may fall on either side.
    let popularity = |item: ItemIx| f64::from(seen.serving.items.popularity(item)).max(0.0);
    let mut all: Vec<f64> = shown.iter().map(|shown| popularity(shown.event.item)).collect();
    all.sort_by(f64::total_cmp);
    let bound = all.get(all.len() / 5).copied().unwrap_or(0.0);
    let liked: Vec<f64> = outcomes(seen, EventKind::Like)
        .filter(|event| event.decided.zip(event.request_id).is_some_and(|(slot, id)| recent(slot, id.unix_millis())))
        .map(|event| popularity(event.item))
        .collect();
    let below = |bound: f64| liked.iter().filter(|popularity| **popularity < bound).count() as f64 / liked.len() as f64;
    let width = below(bound * 1.03) - below(bound * 0.97);
    rows.add("personalization_serendipity_ratio", "", Truth { value: below(bound), error: width.max(1e-9) });
}

/// Of the personalised pages of six hours.
fn exploration(seen: &Seen<'_>, shown: &[Shown<'_>], rows: &mut Rows<'_>) {
    let shown: Vec<_> = shown.iter().filter(|s| is_personalized(s.slot) && SIX_HOURS.has(s.at, seen.until)).collect();
    let n = shown.len() as f64;
    let share = |kind| shown.iter().filter(|shown| shown.slot.kind == kind).count() as f64 / n;
    let (explore, uniform) = (share(SlotKind::Explore), share(SlotKind::Uniform));
    rows.add("personalization_exploration_rate", "algorithm=\"thompson\"", exact(explore));
    rows.add("personalization_exploration_rate", "algorithm=\"random\"", drawn(UNIFORM, n));
    rows.add("bandit_exploration_rate", "", exact(explore + uniform));

    // An arm is worth what its items would earn on average, shown evenly. Every reward begins with a click.
    let mut arms: BTreeMap<&str, [f64; 3]> = BTreeMap::new();
    for shown in shown.iter().filter(|shown| shown.slot.kind == SlotKind::Uniform) {
        let weight = 1.0 / f64::from(shown.slot.propensity.unwrap_or(1.0));
        let arm = arms.entry(seen.category(shown.event.item)).or_default();
        let sums = [weight, weight * weight, weight * shown.click];
        arm.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
    }
    let known = arms.values().filter(|[weight, squares, _]| weight * weight / squares >= LEAST_PULLS);
    let best = known.map(|[weight, _, reward]| reward / weight).fold(f64::NAN, f64::max);
    let actual = shown.iter().map(|shown| shown.click).sum::<f64>() / n;
    rows.add("bandit_cumulative_regret", "", exact(1.0 - actual / best));
}

/// Of the personalised pages of a day.
fn items(seen: &Seen<'_>, shown: &[Shown<'_>], rows: &mut Rows<'_>) {
    let catalogue = seen.world.items().len() + seen.visits.items.len();
    let mut counts = vec![0usize; catalogue];
    for shown in shown.iter().filter(|s| is_personalized(s.slot) && DAY.has(s.at, seen.until)) {
        if let Some(count) = counts.get_mut(shown.event.item.index()) {
            *count += 1;
        }
    }
    let n = catalogue as f64;
    let different = counts.iter().filter(|count| **count > 0).count();
    rows.add("personalization_catalog_coverage_ratio", "", exact(different as f64 / n));
    let is_young = |(item, _): &(usize, &usize)| seen.until - seen.created_at(ItemIx(*item as u32)) < DAY_MS;
    let young: Vec<_> = counts.iter().enumerate().filter(is_young).collect();
    let warm = young.iter().filter(|(_, count)| **count > WARM).count();
    rows.add("bandit_cold_item_coverage_ratio", "", exact(warm as f64 / young.len() as f64));
    // Half of the mean difference over the mean (Gini 1912).
    counts.sort_unstable();
    let total: usize = counts.iter().sum();
    let differences: f64 =
        counts.iter().enumerate().map(|(rank, &count)| count as f64 * (2.0 * rank as f64 + 1.0 - n)).sum();
    rows.add("bandit_arm_pull_distribution_gini", "", exact(differences / (n * total as f64)));
}

/// Of the scored slots of the last hour.
fn models(seen: &Seen<'_>, shown: &[Shown<'_>], rows: &mut Rows<'_>) {
    let version = seen.serving.bundle.version();
    let labels = format!("model_version=\"{version}\"");
    let of_model = |shown: &&Shown<'_>| HOUR.has(shown.at, seen.until) && shown.slot.model == version.code();
    let scored: Vec<(&Shown<'_>, f64)> =
        shown.iter().filter(of_model).filter_map(|shown| Some((shown, shown.slot.score?.into()))).collect();

    let discount = |position: u16| 1.0 / (f64::from(position) + 2.0).log2();
    let [mut relevance, mut gain, mut scores, mut ideal] = [0.0; 4];
    for (shown, score) in &scored {
        if shown.slot.position < DEPTH {
            let relevant = shown.click / examination(shown.slot.position.into());
            (relevance, gain) = (relevance + relevant, gain + relevant * discount(shown.slot.position));
            scores += score;
        }
        if shown.slot.ideal_position < DEPTH {
            ideal += score * discount(shown.slot.ideal_position);
        }
    }
    rows.add("model_ndcg_score", &labels, exact(gain / (ideal * relevance / scores)));

    // The error of bins of equal mass, and how far clicks by chance may move it.
    let mut sorted: Vec<(f64, f64)> = scored.iter().map(|(shown, score)| (*score, shown.click)).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut square, mut variance) = (0.0, 0.0);
    for bin in sorted.chunks(sorted.len().div_ceil(CALIBRATION_BINS).max(1)) {
        let (n, w) = (bin.len() as f64, bin.len() as f64 / sorted.len() as f64);
        let gap = bin.iter().map(|(score, click)| click - score).sum::<f64>() / n;
        let chance = bin.iter().map(|(_, click)| click * (1.0 - click)).sum::<f64>() / (n * n);
        square += w * gap * gap;
        variance += w * w * (2.0 * chance * chance + 4.0 * gap * gap * chance);
    }
    let truth = square.sqrt();
    rows.add("model_calibration_error", &labels, Truth { value: truth, error: variance.sqrt() / (2.0 * truth) });

    // A histogram counts since the start.
    let all = shown.iter().filter(|shown| shown.slot.model == version.code() && shown.slot.position == 0);
    let first: Vec<f64> = all.filter_map(|shown| Some(shown.slot.score?.into())).collect();
    rows.add("model_confidence_score_count", &labels, exact(first.len() as f64));
    rows.add("model_confidence_score_sum", &labels, exact(first.iter().sum()));

    // The index is told to search exactly.
    for k in [10, 100, 1_000] {
        rows.add("model_recall_score", &format!("k=\"{k}\",{labels}"), exact(1.0));
    }
}

/// Pages that found an embedding: of visitors who had done something before.
fn embeddings(seen: &Seen<'_>, shown: &[Shown<'_>], rows: &mut Rows<'_>) {
    let mut first: HashMap<Uid, UnixMillis> = HashMap::new();
    for event in seen.log {
        let at = first.entry(event.uid).or_insert(UnixMillis::MAX);
        *at = event.occurred_at.min(*at);
    }
    let pages: BTreeSet<(RequestId, Uid)> =
        shown.iter().filter(|s| HOUR.has(s.at, seen.until)).map(|s| (s.request, s.event.uid)).collect();
    let found = pages.iter().filter(|(request, uid)| first.get(uid).is_some_and(|at| *at < request.unix_millis()));
    let share = found.count() as f64 / pages.len() as f64;
    // Pages that the consumer met late are not looked at.
    rows.add("embedding_coverage_ratio", "", drawn(share, pages.len() as f64));
    // Every visitor's events were applied before their next page.
    rows.add("embedding_staleness_rate", "", exact(0.0));
}

fn drifts(seen: &Seen<'_>, shown: &[Shown<'_>], rows: &mut Rows<'_>) {
    let (embedding, features) = drift::recounted(seen, shown, HOUR);
    rows.add("embedding_drift_score", "", embedding);
    for (feature, truth) in features {
        rows.add("model_feature_drift_score", &format!("feature_name=\"{feature}\""), truth);
    }
}

/// What the bandit believes, and how old features are.
fn live(seen: &Seen<'_>, rows: &mut Rows<'_>) {
    rows.add("bandit_believed_regret", "", None);
    let labels = |name: &str, value: &str| format!("{name}=\"{value}\"");
    for arm in seen.world.items().iter().filter_map(|item| item.categories.first()).collect::<BTreeSet<_>>() {
        rows.add("bandit_posterior_uncertainty", &labels("item_segment", arm), None);
    }
    let none = UserAttributes::default();
    for (feature, _) in seen.serving.bundle.attribute_values(&none) {
        rows.add("model_feature_age_seconds_count", &labels("feature_name", feature), None);
    }
}

impl Seen<'_> {
    fn new_item(&self, item: ItemIx) -> Option<&super::visits::NewItem> {
        self.visits.items.get(item.index().checked_sub(self.world.items().len())?)
    }

    fn category(&self, item: ItemIx) -> &str {
        match self.world.items().get(item.index()) {
            Some(item) => item.categories.first().map_or("", |category| category),
            None => self.new_item(item).map_or("", |item| &item.category),
        }
    }

    fn created_at(&self, item: ItemIx) -> UnixMillis {
        match self.world.items().get(item.index()) {
            Some(item) => item.created_at.unwrap_or(0),
            None => self.new_item(item).map_or(0, |item| item.created_at),
        }
    }
}
