//! A page: hit, miss or what is left when both fail. The use case, top to bottom.

use crate::Parts;
use crate::request::{Personalize, format_time};
use crate::score::{HitInputs, decide};
use crate::sets::{CandidateSet, Freshness};
use crate::users::UserEntry;
use attune_decision::{
    CohortKey, Decided, DecisionRecord, Path, ScoredItems, favourites, is_holdout, pack_scores, pack_slots,
};
use attune_domain::{
    CacheStatus, Context, ItemIx, Level, LevelReason, PageType, Reason, RequestId, Source, Tier, Uid, UnixMillis,
    Variant,
};
use attune_proto::origin::v1 as origin;
use attune_rpc::{Code, Deadline, Scope};
use attune_serving::Serving;
use attune_telemetry::{Baggage, BaggageKey, Name, Span};
use bytes::Bytes;
use std::sync::Arc;

/// Items of the lists that stand in for a candidate set.
const FALLBACK_ITEMS: usize = 200;

/// A page, ready to be written out.
pub(crate) struct Page {
    pub(crate) serving: Arc<Serving>,
    pub(crate) decided: Decided,
    pub(crate) tier: Tier,
    pub(crate) cache: CacheStatus,
    pub(crate) level: Level,
    pub(crate) reason: Option<LevelReason>,
    pub(crate) variant: Variant,
    pub(crate) watermark: Option<Arc<str>>,
    pub(crate) version: u64,
    pub(crate) explanations: Vec<String>,
}

impl Page {
    pub(crate) fn source(&self) -> Source {
        match self.variant {
            Variant::Treatment => Source::Personalized,
            Variant::Holdout => Source::Baseline,
        }
    }
}

/// What the handler made of a request: no raw id in it.
pub(crate) struct PageRequest {
    pub(crate) uid: Option<Uid>,
    pub(crate) context: Context,
    pub(crate) limit: u16,
    pub(crate) item: Option<ItemIx>,
    pub(crate) query: Option<String>,
    pub(crate) explain: bool,
    pub(crate) request_id: RequestId,
    pub(crate) now: UnixMillis,
    /// Version the visitor's session has seen elsewhere.
    pub(crate) min_version: u64,
}

impl PageRequest {
    pub(crate) fn new(
        parts: &Parts,
        body: &Personalize,
        request_id: RequestId,
        now: UnixMillis,
        min_version: u64,
    ) -> Self {
        let visitor = match (&body.user_id, &body.session_id) {
            (Some(user), _) => Some(parts.subject_key.uid(user.as_str())),
            (None, Some(session)) => Some(parts.subject_key.uid_of_session(session.as_str())),
            (None, None) => None,
        };
        let serving = parts.serving.load();
        let item = body.item_id.as_ref().and_then(|id| serving.catalogue.find(id.as_str()));
        Self {
            uid: visitor,
            context: body.context,
            limit: body.limit,
            item,
            query: body.query.clone(),
            explain: body.explain,
            request_id,
            now,
            min_version,
        }
    }

    /// The decision's randomness: the low half of the request id.
    fn seed(&self) -> u64 {
        let mut low = [0; 8];
        low.copy_from_slice(&self.request_id.0[8..]);
        u64::from_be_bytes(low)
    }

    /// Whether only the origin knows the candidates: those of an item, or of a query.
    fn needs_origin(&self) -> bool {
        match self.context.page {
            PageType::Product => self.item.is_some(),
            PageType::Search => self.query.is_some(),
            PageType::Home | PageType::Cart => false,
        }
    }
}

/// What the cache had for a request.
struct Found {
    entry: Option<Arc<UserEntry>>,
    set: Option<(Arc<CandidateSet>, Freshness)>,
    key: CohortKey,
}

/// Answers a page. Never fails.
pub(crate) async fn personalize(parts: &Arc<Parts>, span: &Span, request: &PageRequest) -> Page {
    let serving = parts.serving.load_full();
    let holdout = request.uid.is_some_and(|uid| is_holdout(&uid, parts.config.experiment.holdout));
    let found = look_up(parts, &serving, span, request);

    let version_is_here = found.entry.as_ref().is_some_and(|e| e.state.version.next_offset >= request.min_version)
        || (request.uid.is_none() && request.min_version == 0);
    if let (Some(entry), true) = (&found.entry, version_is_here) {
        if holdout {
            return baseline(parts, serving, request, entry);
        }
        if let (Some((set, freshness)), false) = (&found.set, request.needs_origin() || request.explain) {
            // A degraded set is stale soon enough; asking with every hit would get the origin's same set again.
            if *freshness == Freshness::Stale {
                refresh(parts, found.key);
            }
            let (level, reason) = hit_level(parts, request, entry, set, *freshness);
            let cache = if entry.is_behind(request.now, parts.config.cache.behind.get()) {
                CacheStatus::Miss
            } else {
                CacheStatus::Hit
            };
            return hit(parts, serving, span, request, entry, set, (level, reason), cache);
        }
    }
    match Box::pin(ask_origin(parts, &serving, span, request, &found, holdout)).await {
        Ok(page) => page,
        Err(reason) => without_origin(parts, serving, span, request, &found, holdout, reason),
    }
}

fn look_up(parts: &Parts, serving: &Serving, span: &Span, request: &PageRequest) -> Found {
    let lookup = span.child("edge.cache_lookup");
    let entry = match &request.uid {
        Some(uid) => parts.users.get(serving, uid),
        None => Some(parts.nobody.load_full()),
    };
    let cluster = entry.as_ref().map_or_else(|| parts.nobody.load().cluster, |entry| entry.cluster);
    let key = CohortKey { cluster, geo: request.context.geo, page: request.context.page };
    let set = parts.sets.get(key, &serving.bundle.version().0, request.now);
    lookup.with(|lookup| {
        let cohort = i64::from(key.cluster) << 16 | i64::from(key.geo.code()) << 8 | i64::from(key.page.code());
        lookup.set("key", cohort).set("hit", entry.is_some() && set.is_some());
    });
    lookup.end();
    Found { entry, set, key }
}

fn hit_level(
    parts: &Parts,
    request: &PageRequest,
    entry: &UserEntry,
    set: &CandidateSet,
    freshness: Freshness,
) -> (Level, Option<LevelReason>) {
    let stale = if request.uid.is_some() && !parts.origin_is_near(request.now) {
        Some(LevelReason::OriginUnavailable)
    } else if entry.is_behind(request.now, parts.config.cache.behind.get()) {
        Some(LevelReason::StateBehind)
    } else if freshness == Freshness::Stale {
        Some(LevelReason::CandidatesStale)
    } else {
        None
    };
    match stale {
        Some(reason) if set.level < Level::Stale => (Level::Stale, Some(reason)),
        _ => (set.level, set.reason),
    }
}

#[expect(clippy::too_many_arguments, reason = "each is an input of the decision")]
fn hit(
    parts: &Parts,
    serving: Arc<Serving>,
    span: &Span,
    request: &PageRequest,
    entry: &UserEntry,
    set: &CandidateSet,
    (level, reason): (Level, Option<LevelReason>),
    cache: CacheStatus,
) -> Page {
    let scoring = span.child("edge.score");
    scoring.set("model_version", serving.bundle.version());
    let held = parts.posteriors.load();
    let decided = entry.with_candidates(&serving, set, |candidates| {
        decide(&HitInputs {
            serving: &serving,
            posteriors: &held.posteriors,
            policy: &parts.policy,
            window_vector: &entry.window_vector,
            candidates,
            context: request.context,
            limit: request.limit.into(),
            seed: request.seed(),
        })
    });
    scoring.end();
    if decided.items.is_empty() {
        return baseline_list(parts, serving, request, entry, Level::GlobalFavourites, LevelReason::NoCandidates);
    }
    let mut record = new_record(&serving, request, Variant::Treatment, Path::Hit, &decided, level, reason);
    record.policy = parts.policy.to_array().to_vec();
    record.posteriors = held.object.name();
    record.state = entry.state_object.name();
    record.own = entry.own_object.name();
    record.candidates = set.object.name();
    record.scores = Bytes::from(pack_scores(&decided.scores));
    let objects = [&held.object, &entry.state_object, &entry.own_object, &set.object];
    parts.recorder.record(request.request_id, &record, &objects);
    Page {
        serving,
        decided,
        tier: Tier::Edge,
        cache,
        level,
        reason,
        variant: Variant::Treatment,
        watermark: entry.watermark.clone(),
        version: entry.state.version.next_offset,
        explanations: Vec::new(),
    }
}

/// What the holdout gets: everybody's favourites, whoever asks.
fn baseline(parts: &Parts, serving: Arc<Serving>, request: &PageRequest, entry: &UserEntry) -> Page {
    let mut page = baseline_list(parts, serving, request, entry, Level::GlobalFavourites, LevelReason::BaselineHoldout);
    page.cache = CacheStatus::Hit;
    page
}

/// Favourites of everybody, or below them the static list.
fn baseline_list(
    parts: &Parts,
    serving: Arc<Serving>,
    request: &PageRequest,
    entry: &UserEntry,
    mut level: Level,
    reason: LevelReason,
) -> Page {
    let cohorts = serving.bundle.cohorts();
    let limit = request.limit.into();
    let unseen = |item: ItemIx| serving.is_available(item) && !entry.state.window.has_seen(item);
    let mut decided = favourites(cohorts.global_favourites(), limit, unseen);
    if decided.items.is_empty() {
        level = Level::Static;
        decided = favourites(cohorts.static_list(), limit, |item| serving.is_available(item));
    }
    let variant = if reason == LevelReason::BaselineHoldout { Variant::Holdout } else { Variant::Treatment };
    let mut record = new_record(&serving, request, variant, Path::Favourites, &decided, level, Some(reason));
    record.state = entry.state_object.name();
    parts.recorder.record(request.request_id, &record, &[&entry.state_object]);
    Page {
        serving,
        decided,
        tier: Tier::Edge,
        cache: CacheStatus::Miss,
        level,
        reason: Some(reason),
        variant,
        watermark: entry.watermark.clone(),
        version: entry.state.version.next_offset,
        explanations: Vec::new(),
    }
}

fn new_record(
    serving: &Serving,
    request: &PageRequest,
    variant: Variant,
    path: Path,
    decided: &Decided,
    level: Level,
    reason: Option<LevelReason>,
) -> DecisionRecord {
    DecisionRecord {
        request_id: Bytes::copy_from_slice(&request.request_id.0),
        uid: Bytes::copy_from_slice(&request.uid.map_or([0; 17], |uid| uid.0)),
        now: request.now,
        seed: request.seed(),
        context: Some(request.context.into()),
        limit: request.limit.into(),
        item: request.item.map_or(0, |item| item.0 + 1),
        path: path as u32,
        level: level.code().into(),
        level_reason: reason.map_or(0, |r| u32::from(r.code()) + 1),
        variant: variant.code().into(),
        catalogue_offset: serving.catalogue.next_offset(),
        model: serving.bundle.version().code(),
        digests: decided.digests.to_vec(),
        items: decided.items.clone(),
        slots: Bytes::from(pack_slots(&decided.slots)),
        eligible: decided.eligible,
        ..DecisionRecord::default()
    }
}

/// A miss. The error says why the origin did not answer.
async fn ask_origin(
    parts: &Parts,
    serving: &Arc<Serving>,
    span: &Span,
    request: &PageRequest,
    found: &Found,
    holdout: bool,
) -> Result<Page, LevelReason> {
    let Ok(_permit) = parts.origin_calls.try_acquire() else { return Err(LevelReason::Overload) };
    let uid = request.uid.unwrap_or(attune_domain::Uid([0; 17]));
    let awaited = request.uid.map_or(0, |uid| parts.users.awaited(&uid)).max(request.min_version);
    let pending = found.entry.as_ref().map(|entry| &entry.pending[..]).unwrap_or_default();
    let message = origin::PersonalizeRequest {
        uid: Bytes::copy_from_slice(&uid.0),
        context: Some(request.context.into()),
        limit: request.limit.into(),
        item: request.item.unwrap_or(ItemIx::UNKNOWN).0,
        query: request.query.clone().unwrap_or_default(),
        request_id: Bytes::copy_from_slice(&request.request_id.0),
        now: request.now,
        seed: request.seed(),
        holdout,
        explain: request.explain,
        pending_offsets: pending.iter().map(|(next_offset, _)| *next_offset).collect(),
        pending: pending.iter().map(|(_, event)| event.into()).collect(),
        min_offset: awaited,
        want_candidate_set: found.entry.is_none()
            || found.set.as_ref().is_none_or(|(_, freshness)| *freshness == Freshness::Stale),
        want_user_view: request.uid.is_some(),
    };
    let max = if request.explain { parts.config.explain_deadline.get() } else { parts.config.origin_deadline.get() };
    span.carry(baggage(holdout));
    let scope = Scope::new(span.clone(), Deadline::after(max));
    let answer = match parts.origin.clone().personalize(attune_rpc::request(message, &scope, max)).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if Code::of(&status) == Code::Late => return Err(LevelReason::OriginTimeout),
        Err(_) => return Err(LevelReason::OriginUnavailable),
    };
    take_in(parts, serving, request, &answer);
    let count = answer.items.len();
    if answer.scores.len() != count || answer.reasons.len() != count {
        return Err(LevelReason::OriginUnavailable);
    }
    let reasons: Vec<Reason> =
        answer.reasons.iter().map(|&code| Reason::from_code(code).unwrap_or(Reason::Favourite)).collect();
    let version = answer.user_view.as_ref().and_then(|view| view.state.as_ref()?.version);
    Ok(Page {
        serving: Arc::clone(serving),
        decided: Decided { items: answer.items, scores: answer.scores, reasons, ..Decided::default() },
        tier: if answer.llm { Tier::Llm } else { Tier::Origin },
        cache: CacheStatus::Miss,
        level: u8::try_from(answer.level).ok().and_then(Level::from_code).unwrap_or(Level::Static),
        reason: LevelReason::parse(&answer.level_reason),
        variant: if holdout { Variant::Holdout } else { Variant::Treatment },
        watermark: answer.watermark.and_then(format_time).map(Arc::from),
        version: version.map_or(0, |v| v.next_offset),
        explanations: answer.explanations,
    })
}

/// What every service asked for this page may know of it.
fn baggage(holdout: bool) -> Baggage {
    let assigned = if holdout { "holdout:holdout" } else { "holdout:treatment" };
    let pairs = [(BaggageKey::Experiment, assigned), (BaggageKey::Tier, Tier::Origin.as_str())];
    let name = |(key, text)| Some((key, Name::new(text)?));
    pairs.into_iter().filter_map(name).fold(Baggage::default(), |baggage, (key, name)| baggage.with(key, name))
}

/// Keeps what the origin sent along.
fn take_in(parts: &Parts, serving: &Serving, request: &PageRequest, answer: &origin::PersonalizeResponse) {
    if let Some(set) = &answer.candidate_set {
        // A malformed set is not kept; the next request asks again.
        let _malformed = parts.sets.put(set, request.now).is_err();
    }
    if let (Some(uid), Some(view)) = (request.uid, &answer.user_view)
        && parts.users.put_view(serving, uid, view, request.now) == Ok(true)
    {
        let version = parts.users.get(serving, &uid).map(|entry| entry.state.version);
        parts.followed.follow(uid, version.unwrap_or_default());
    }
}

/// The rungs below the origin, best first.
fn without_origin(
    parts: &Parts,
    serving: Arc<Serving>,
    span: &Span,
    request: &PageRequest,
    found: &Found,
    holdout: bool,
    reason: LevelReason,
) -> Page {
    span.degrade(reason.as_str());
    let nobody = parts.nobody.load_full();
    let entry = found.entry.as_ref().unwrap_or(&nobody);
    if holdout {
        return Page { cache: CacheStatus::Miss, ..baseline(parts, serving, request, entry) };
    }
    if reason == LevelReason::Overload && found.set.is_none() {
        return baseline_list(parts, serving, request, entry, Level::GlobalFavourites, reason);
    }
    let known = found.entry.is_some();
    match &found.set {
        Some((set, _)) => {
            let level = if known { Level::Stale } else { Level::CohortFavourites };
            let level = level.max(set.level);
            hit(parts, serving, span, request, entry, set, (level, Some(reason)), CacheStatus::Miss)
        }
        None => {
            let set = favourites_set(&serving, entry.cluster);
            hit(parts, serving, span, request, entry, &set, (Level::CohortFavourites, Some(reason)), CacheStatus::Miss)
        }
    }
}

/// A candidate set that needs nobody: the bundle's lists for the cohort and for everybody.
fn favourites_set(serving: &Serving, cluster: u16) -> CandidateSet {
    let cohorts = serving.bundle.cohorts();
    let mut items = ScoredItems::default();
    let lists =
        [(cohorts.favourites(cluster), Reason::CohortFavourite), (cohorts.global_favourites(), Reason::Favourite)];
    let intercept = serving.bundle.edge().intercept;
    for (list, reason) in lists {
        for item in list.iter().take(FALLBACK_ITEMS).filter(|item| item.index() < serving.items.len()) {
            if !items.items.contains(&item.0) {
                items.items.push(item.0);
                items.offsets.push(intercept);
                items.reasons.push(reason);
            }
        }
    }
    CandidateSet::of_favourites(items, Level::CohortFavourites)
}

/// Fetches a cohort's set in the background, once at a time.
fn refresh(parts: &Arc<Parts>, key: CohortKey) {
    if !parts.sets.begin_refresh(key) {
        return;
    }
    let parts = Arc::clone(parts);
    tokio::spawn(async move {
        let now = (parts.clock)();
        let message = origin::GetCandidateSetRequest { cohort: key.to_string(), now };
        let max = parts.config.origin_deadline.get();
        let request = attune_rpc::request(message, &Scope::detached(), max);
        if let Ok(set) = parts.origin.clone().get_candidate_set(request).await {
            let _malformed = parts.sets.put(set.get_ref(), now).is_err();
        }
        parts.sets.refreshed(key);
    });
}
