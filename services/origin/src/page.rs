//! A miss: context, candidates, scores, slate. The use case, top to bottom.

use crate::level::Ladder;
use crate::{Parts, views};
use attune_decision::{
    Choice, Decided, DecisionRecord, Digest, Outcome, Path, Policy, Sampler, ScoredItems, Scratch, SourceItems,
    SourceKind, Stage, choose, favourites, merge, unpack_slots,
};
use attune_domain::{
    Context, ItemIx, Level, LevelReason, LoggedEvent, Reason, RequestId, Uid, UnixMillis, UserState, Variant,
};
use attune_model::UserInput;
use attune_proto::convert::WireError;
use attune_proto::{bandit::v1 as bandit, ranking::v1 as ranking, retrieval::v1 as retrieval, state::v1 as wire};
use attune_rpc::Scope;
use attune_serving::Serving;
use attune_storage::{DecisionEntry, ObjectHash};
use bytes::Bytes;
use prost::Message as _;
use std::sync::Arc;

/// Stages of a page, each with a span, a deadline, a duration and an outcome.
pub(crate) const STAGES: [&str; 4] = ["context.build", "api.retrieve", "api.rank", "api.sample"];

/// A valid request for a page.
#[derive(Debug, Clone)]
pub(crate) struct PageRequest {
    pub(crate) uid: Uid,
    pub(crate) context: Context,
    pub(crate) limit: usize,
    pub(crate) item: Option<ItemIx>,
    pub(crate) query: String,
    pub(crate) request_id: RequestId,
    pub(crate) now: UnixMillis,
    pub(crate) seed: u64,
    pub(crate) holdout: bool,
    pub(crate) pending: Vec<(u64, LoggedEvent)>,
    pub(crate) min_offset: u64,
}

/// A page, and what the edge may keep of it.
pub(crate) struct Page {
    pub(crate) decided: Decided,
    pub(crate) ladder: Ladder,
    pub(crate) state: Arc<UserState>,
    pub(crate) own: ScoredItems,
    pub(crate) serving: Arc<Serving>,
}

/// What replay needs to run the candidate stage of a miss again.
#[derive(Clone, Copy)]
pub struct MissInputs<'a> {
    pub serving: &'a Serving,
    pub state: &'a UserState,
    pub sources: &'a [SourceItems],
    pub item: Option<ItemIx>,
    pub candidates: usize,
}

/// What each source is asked for, so that `candidates` are left of it without what the visitor has seen.
pub fn asked_of_sources(candidates: usize, state: &UserState) -> usize {
    candidates + state.window.seen().len()
}

/// A source's answer without what the visitor has seen, and no longer than the candidates may be.
pub fn unseen_of_source(items: &mut Vec<ItemIx>, candidates: usize, state: &UserState) {
    items.retain(|item| !state.window.has_seen(*item));
    items.truncate(candidates);
}

/// The candidates of a miss: merged, without what the visitor has seen, what cannot be had and the page's own item.
pub fn miss_candidates(inputs: &MissInputs<'_>) -> (Vec<u32>, Vec<Reason>) {
    merge(inputs.sources, inputs.candidates)
        .into_iter()
        .filter(|(item, _)| {
            inputs.serving.is_available(*item)
                && !inputs.state.window.has_seen(*item)
                && Some(*item) != inputs.item
                && item.index() < inputs.serving.items.len()
        })
        .map(|(item, source)| (item.0, reason_of(source)))
        .unzip()
}

pub(crate) const fn reason_of(source: SourceKind) -> Reason {
    match source {
        SourceKind::Neighbours => Reason::TasteMatch,
        SourceKind::SimilarToRecent => Reason::SimilarToRecent,
        // Until live events say more, this source lists what was always taken most.
        SourceKind::Trending => Reason::Popular,
        SourceKind::Fresh => Reason::Fresh,
        SourceKind::CohortFavourites => Reason::CohortFavourite,
        SourceKind::Related => Reason::RelatedItem,
        SourceKind::Search => Reason::SearchMatch,
    }
}

/// Source answers from the wire; an unknown source or outcome is refused.
pub fn source_items(sources: &[(u32, u32, &[u32])]) -> Result<Vec<SourceItems>, WireError> {
    sources
        .iter()
        .map(|&(source, outcome, items)| {
            Ok(SourceItems {
                source: SourceKind::from_code(source).ok_or(WireError::new("sources.source", "unknown"))?,
                outcome: Outcome::from_code(outcome).ok_or(WireError::new("sources.outcome", "unknown"))?,
                items: items.iter().map(|&item| ItemIx(item)).collect(),
            })
        })
        .collect()
}

/// Assembles a page. Never fails: what is missing lowers the level.
pub(crate) async fn assemble(parts: &Parts, scope: &Scope, request: &PageRequest) -> Page {
    let serving = parts.serving.load_full();
    let mut ladder = Ladder::TOP;
    let mut record = new_record(&serving, request);

    let (state, state_known) = views::build_context(parts, scope, &serving, request, &mut ladder).await;
    scope.span.set("user_segment", state.window.segment().as_str());

    if request.holdout {
        ladder.fall(Level::GlobalFavourites, LevelReason::BaselineHoldout);
        let decided = global_favourites(&serving, &state, request.limit);
        return finish(
            parts,
            request,
            record,
            Outcomes {
                path: Path::Favourites,
                decided,
                ladder,
                state,
                serving,
                own: ScoredItems::default(),
                object: None,
            },
        );
    }

    let input =
        UserInput { window: &state.window, attributes: &state.attributes, context: request.context, now: request.now };
    let user_vector = serving.bundle.user_vector(&serving.items, &input);
    let cluster = serving.bundle.cohorts().assign(&user_vector);

    let retrieved = retrieve(parts, scope, &serving, request, &state, &user_vector, cluster, &mut ladder).await;
    let sources = retrieved.sources;
    let inputs = MissInputs {
        serving: &serving,
        state: &state,
        sources: &sources,
        item: request.item,
        candidates: parts.config.candidates,
    };
    let (items, reasons) = miss_candidates(&inputs);
    if items.is_empty() {
        ladder.fall(Level::GlobalFavourites, LevelReason::NoCandidates);
        let decided = global_favourites(&serving, &state, request.limit);
        return finish(
            parts,
            request,
            record,
            Outcomes {
                path: Path::Favourites,
                decided,
                ladder,
                state,
                serving,
                own: ScoredItems::default(),
                object: None,
            },
        );
    }
    parts.metrics.candidates.observe(items.len() as f64);

    let dots = dots(&serving, &user_vector, &items);
    let ranked = rank(parts, scope, &serving, request, &state, &items).await;
    record.unranked = ranked.is_none();
    let scores = ranked.unwrap_or_else(|| {
        ladder.fall(Level::Unranked, LevelReason::RankingUnavailable);
        line_scores(&serving, &user_vector, &items)
    });

    let sampled = sample(parts, scope, &serving, request, &items, &scores).await;
    record.unsampled = sampled.is_none();
    let sampled = sampled.unwrap_or_else(|| {
        ladder.fall(Level::Fresh, LevelReason::BanditUnavailable);
        exploit(parts, &serving, request, &items, &scores)
    });
    record.policy = sampled.policy.to_array().to_vec();
    record.posteriors = Bytes::copy_from_slice(&sampled.posteriors.0.0);

    let mut digests = [0; Stage::ALL.len()];
    digests[Stage::Context as usize] = Digest::default().f32s(&user_vector).finish();
    digests[Stage::AnnSearch as usize] = ann_digest(&sources);
    digests[Stage::Candidates as usize] = Digest::default().u32s(&items).finish();
    digests[Stage::Score as usize] = Digest::default().f32s(&scores).finish();
    digests[Stage::Sample as usize] = sampled.sample_digest;
    digests[Stage::Slate as usize] = sampled.slate_digest;
    let decided = Decided {
        items: sampled.picks.iter().map(|&i| items[i as usize]).collect(),
        reasons: sampled
            .picks
            .iter()
            .zip(&sampled.slots)
            .map(|(&i, slot)| if slot.exploration { Reason::Exploration } else { reasons[i as usize] })
            .collect(),
        scores: sampled.means.iter().map(|m| m.clamp(0.0, 1.0)).collect(),
        slots: sampled.slots,
        digests,
        eligible: items.len() as u32,
    };
    record.sources = sources
        .iter()
        .map(|s| attune_proto::decision::v1::SourceOutcome {
            source: s.source.code().into(),
            outcome: s.outcome.code().into(),
            items: s.items.iter().map(|i| i.0).collect(),
        })
        .collect();
    record.index = retrieved.index;
    record.candidate_limit = parts.config.candidates as u32;
    record.scores = Bytes::from(attune_decision::pack_scores(&decided.scores));
    record.query.clone_from(&request.query);

    // An own list serves every page, so it comes from a page without a search or an item of its own.
    let plain = request.item.is_none() && request.query.is_empty() && state_known && !record.unranked;
    let own = if plain {
        own_list(&serving, parts.config.own_items, &items, &scores, &dots, &reasons)
    } else {
        ScoredItems::default()
    };
    finish(
        parts,
        request,
        record,
        Outcomes { path: Path::Miss, decided, ladder, state, serving, own, object: Some(sampled.posteriors) },
    )
}

/// Digest of what the vector index found for the user vector; 0 where it was not asked or did not answer.
fn ann_digest(sources: &[SourceItems]) -> u64 {
    sources
        .iter()
        .find(|s| s.source == SourceKind::Neighbours && s.outcome == Outcome::Ok)
        .map_or(0, |s| Digest::default().u32s(&s.items.iter().map(|i| i.0).collect::<Vec<_>>()).finish())
}

pub(crate) fn dots(serving: &Serving, user_vector: &[f32], items: &[u32]) -> Vec<f32> {
    let mut out = vec![0.0; items.len()];
    attune_inference::gather_dot(serving.items.vectors(), serving.items.dim(), user_vector, items, &mut out);
    out
}

/// Scores without the ranking model: the edge's line through the dot product.
pub fn line_scores(serving: &Serving, user_vector: &[f32], items: &[u32]) -> Vec<f32> {
    let edge = serving.bundle.edge();
    let line = |dot: f32| 1.0 / (1.0 + (-(edge.intercept + edge.slope * dot)).exp());
    dots(serving, user_vector, items).into_iter().map(line).collect()
}

/// The best `count` candidates with their scoring lines.
pub(crate) fn own_list(
    serving: &Serving,
    count: usize,
    items: &[u32],
    scores: &[f32],
    dots: &[f32],
    reasons: &[Reason],
) -> ScoredItems {
    let slope = serving.bundle.edge().slope;
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then_with(|| items[a].cmp(&items[b])));
    let mut own = ScoredItems::default();
    for i in order.into_iter().take(count) {
        own.push(ItemIx(items[i]), scores[i], slope, dots[i], reasons[i]);
    }
    own
}

fn global_favourites(serving: &Serving, state: &UserState, limit: usize) -> Decided {
    let eligible = |item: ItemIx| serving.is_available(item) && !state.window.has_seen(item);
    favourites(serving.bundle.cohorts().global_favourites(), limit, eligible)
}

pub(crate) struct Retrieved {
    pub(crate) sources: Vec<SourceItems>,
    pub(crate) index: Bytes,
}

#[expect(clippy::too_many_arguments, reason = "each is an input of the stage")]
pub(crate) async fn retrieve(
    parts: &Parts,
    scope: &Scope,
    serving: &Serving,
    request: &PageRequest,
    state: &UserState,
    user_vector: &[f32],
    cluster: u16,
    ladder: &mut Ladder,
) -> Retrieved {
    let max = parts.config.deadlines.retrieval.get();
    let message = retrieval::RetrieveRequest {
        user_vector: user_vector.to_vec(),
        recent_items: recent_items(state),
        cluster: cluster.into(),
        context: Some(request.context.into()),
        item: request.item.map_or(u32::MAX, |item| item.0),
        query: request.query.clone(),
        limit: asked_of_sources(parts.config.candidates, state) as u32,
        now: request.now,
        model_version: serving.bundle.version().to_string(),
        // The sources answer a little before the call is given up.
        deadline_ms: (max.as_millis() as u32).saturating_sub(10),
    };
    let mut client = parts.clients.retrieval.clone();
    let ask = async |scope: Scope| client.retrieve(attune_rpc::request(message, &scope, max)).await;
    let answer = parts.stages.run(scope, "api.retrieve", max, ask).await;
    let sources = answer.ok().and_then(|answer| {
        let answer = answer.into_inner();
        let raw: Vec<_> = answer.sources.iter().map(|s| (s.source, s.outcome, &s.items[..])).collect();
        let mut sources = source_items(&raw).ok()?;
        for source in &mut sources {
            unseen_of_source(&mut source.items, parts.config.candidates, state);
        }
        Some(Retrieved { sources, index: answer.index })
    });
    match sources {
        Some(retrieved) if retrieved.sources.iter().any(|s| s.outcome == Outcome::Ok && !s.items.is_empty()) => {
            let lost = |s: &SourceItems| matches!(s.outcome, Outcome::Late | Outcome::Failed);
            if retrieved.sources.iter().any(|s| lost(s) && s.source == SourceKind::Neighbours) {
                ladder.fall(Level::Stale, LevelReason::RetrievalPartial);
            } else if retrieved.sources.iter().any(lost) {
                ladder.fall(Level::Fresh, LevelReason::RetrievalPartial);
            }
            retrieved
        }
        _ => {
            // The bundle's own lists: they need nobody.
            ladder.fall(Level::CohortFavourites, LevelReason::RetrievalUnavailable);
            let cohorts = serving.bundle.cohorts();
            let mut items = cohorts.favourites(cluster).to_vec();
            items.extend_from_slice(cohorts.global_favourites());
            let fallback = SourceItems { source: SourceKind::CohortFavourites, outcome: Outcome::Ok, items };
            let failed = SourceItems { source: SourceKind::Neighbours, outcome: Outcome::Failed, items: Vec::new() };
            Retrieved { sources: vec![failed, fallback], index: Bytes::new() }
        }
    }
}

/// The last few distinct items, newest first; what was hidden is nothing to be similar to.
fn recent_items(state: &UserState) -> Vec<u32> {
    let mut recent = Vec::with_capacity(8);
    for event in state.window.events().iter().rev() {
        if event.kind != attune_domain::EventKind::Hide && !recent.contains(&event.item.0) {
            recent.push(event.item.0);
            if recent.len() == 8 {
                break;
            }
        }
    }
    recent
}

/// Click probabilities by the ranking model, or `None` where it is late, gone or on another model.
pub(crate) async fn rank(
    parts: &Parts,
    scope: &Scope,
    serving: &Serving,
    request: &PageRequest,
    state: &UserState,
    items: &[u32],
) -> Option<Vec<f32>> {
    let message = ranking::RankRequest {
        user: Some(state.into()),
        context: Some(request.context.into()),
        now: request.now,
        items: items.to_vec(),
        model_version: serving.bundle.version().to_string(),
    };
    let max = parts.config.deadlines.ranking.get();
    let mut client = parts.clients.ranking.clone();
    let ask = async |scope: Scope| client.rank(attune_rpc::request(message, &scope, max)).await;
    let answer = parts.stages.run(scope, "api.rank", max, ask).await;
    answer.ok().map(|answer| answer.into_inner().click).filter(|scores| scores.len() == items.len())
}

struct Sampled {
    picks: Vec<u32>,
    means: Vec<f32>,
    slots: Vec<attune_decision::Slot>,
    sample_digest: u64,
    slate_digest: u64,
    policy: Policy,
    posteriors: (ObjectHash, Bytes),
}

async fn sample(
    parts: &Parts,
    scope: &Scope,
    serving: &Serving,
    request: &PageRequest,
    items: &[u32],
    scores: &[f32],
) -> Option<Sampled> {
    let message = bandit::SampleRequest {
        seed: request.seed,
        limit: request.limit as u32,
        items: items.to_vec(),
        scores: scores.to_vec(),
        model_version: serving.bundle.version().to_string(),
        known_posteriors: Bytes::copy_from_slice(&parts.posteriors.known_to_bandit().0),
    };
    let max = parts.config.deadlines.bandit.get();
    let mut client = parts.clients.bandit.clone();
    let ask = async |scope: Scope| client.sample(attune_rpc::request(message, &scope, max)).await;
    let answer = parts.stages.run(scope, "api.sample", max, ask).await.ok()?.into_inner();
    let hash = ObjectHash::from_slice(&answer.posteriors)?;
    let content = parts.posteriors.of_bandit(hash, answer.posteriors_content)?;
    let count = answer.picks.len();
    let valid = answer.means.len() == count && answer.picks.iter().all(|&i| (i as usize) < items.len());
    valid.then_some(Sampled {
        slots: unpack_slots(&answer.slots, count),
        picks: answer.picks,
        means: answer.means,
        sample_digest: answer.sample_digest,
        slate_digest: answer.slate_digest,
        policy: Policy::from_array(&answer.policy)?,
        posteriors: (hash, content),
    })
}

/// Without the bandit: the best by posterior mean, nothing by chance.
fn exploit(parts: &Parts, serving: &Serving, request: &PageRequest, items: &[u32], scores: &[f32]) -> Sampled {
    let policy = Policy::DEFAULT.exploit_only();
    let current = parts.posteriors.load();
    let base_rates = serving.items.base_rates_of(items);
    let choice = Choice { items, scores, base_rates: &base_rates, categories: &serving.categories };
    let chosen = choose(
        &policy,
        Sampler::Exact,
        request.seed,
        request.limit,
        choice,
        &current.posteriors,
        &mut Scratch::default(),
    );
    Sampled {
        picks: chosen.picks,
        means: chosen.means,
        slots: chosen.slots,
        sample_digest: chosen.sample_digest,
        slate_digest: chosen.slate_digest,
        policy,
        posteriors: (current.hash, current.content.clone()),
    }
}

fn new_record(serving: &Serving, request: &PageRequest) -> DecisionRecord {
    DecisionRecord {
        request_id: Bytes::copy_from_slice(&request.request_id.0),
        uid: Bytes::copy_from_slice(&request.uid.0),
        now: request.now,
        seed: request.seed,
        context: Some(request.context.into()),
        limit: request.limit as u32,
        item: request.item.map_or(0, |item| item.0 + 1),
        variant: if request.holdout { Variant::Holdout } else { Variant::Treatment }.code().into(),
        catalogue_offset: serving.catalogue.next_offset(),
        model: serving.bundle.version().code(),
        ..DecisionRecord::default()
    }
}

/// What the stages came to.
struct Outcomes {
    path: Path,
    decided: Decided,
    ladder: Ladder,
    state: Arc<UserState>,
    serving: Arc<Serving>,
    own: ScoredItems,
    /// The posterior snapshot the record names.
    object: Option<(ObjectHash, Bytes)>,
}

/// Completes the record, hands it over, and gives the page.
fn finish(parts: &Parts, request: &PageRequest, mut record: DecisionRecord, outcomes: Outcomes) -> Page {
    let Outcomes { path, decided, ladder, state, serving, own, object } = outcomes;
    let encoded_state = Bytes::from(wire::UserState::from(&*state).encode_to_vec());
    let state_hash = ObjectHash::of(&encoded_state);
    record.path = path as u32;
    record.level = ladder.level.code().into();
    record.level_reason = ladder.reason.map_or(0, |r| u32::from(r.code()) + 1);
    record.digests = decided.digests.to_vec();
    record.items.clone_from(&decided.items);
    record.slots = Bytes::from(attune_decision::pack_slots(&decided.slots));
    record.eligible = decided.eligible;
    record.state = Bytes::copy_from_slice(&state_hash.0);
    let entry = DecisionEntry {
        request_id: request.request_id,
        uid: request.uid,
        record: Bytes::from(attune_decision::encode_record(&record)),
    };
    let objects = std::iter::once((state_hash, encoded_state)).chain(object).collect();
    parts.decisions.record(entry, objects);
    Page { decided, ladder, state, own, serving }
}
