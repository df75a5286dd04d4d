//! Why an item was in an answer: the factors its score really used, put into words by the `llm` service.

use crate::page::reason_of;
use crate::{OriginError, Parts};
use attune_decision::{DecisionRecord, Outcome, Path, SourceKind, decode_record, unpack_slots};
use attune_domain::{ItemIx, Reason, RequestId, UserState};
use attune_model::FeatureGroup;
use attune_proto::{convert, llm::v1 as llm, ranking::v1 as ranking, state::v1 as wire};
use attune_rpc::Scope;
use attune_serving::Serving;
use attune_storage::{Decision, ObjectHash};
use prost::Message as _;
use tonic::Streaming;

/// Factors beyond this many say nothing a visitor would read.
const MAX_FACTORS: usize = 3;
const MAX_EVIDENCE: usize = 3;
/// A contribution smaller than this share of the strongest is noise.
const MIN_SHARE: f32 = 0.1;

/// A factor, as the explanation may name it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Factor {
    pub(crate) reason: Reason,
    /// Change of the click logit, or 0 where the factor is the item's origin.
    pub(crate) weight: f32,
    pub(crate) evidence: Vec<String>,
}

pub(crate) struct Explanation {
    pub(crate) factors: Vec<Factor>,
    /// The sentence, as it is being written; `None` where the `llm` service is away.
    pub(crate) text: Option<Streaming<llm::ReasonResponse>>,
}

pub(crate) async fn explain(
    parts: &Parts,
    scope: &Scope,
    request_id: RequestId,
    item_id: &str,
) -> Result<Explanation, OriginError> {
    let record = match parts.decisions.get(request_id).await? {
        Decision::Found(bytes) => decode_record(bytes).ok_or(OriginError::UnknownDecision)?,
        Decision::Erased => return Err(OriginError::Erased),
        Decision::Unknown => return Err(OriginError::UnknownDecision),
    };
    let serving = parts.serving.load_full();
    let item = serving.catalogue.find(item_id).ok_or(OriginError::UnknownItem)?;
    let slot = record.items.iter().position(|&i| i == item.0).ok_or(OriginError::NotInDecision)?;
    let factors = factors(parts, scope, &serving, &record, slot, item).await?;
    let text = write(parts, scope, &serving, item, &factors).await;
    Ok(Explanation { factors, text })
}

async fn factors(
    parts: &Parts,
    scope: &Scope,
    serving: &Serving,
    record: &DecisionRecord,
    slot: usize,
    item: ItemIx,
) -> Result<Vec<Factor>, OriginError> {
    let mut factors = Vec::new();
    if unpack_slots(&record.slots, record.items.len())[slot].exploration {
        factors.push(Factor { reason: Reason::Exploration, weight: 0.0, evidence: Vec::new() });
    }
    if Path::from_code(record.path) == Some(Path::Favourites) {
        factors.push(Factor { reason: Reason::Favourite, weight: 0.0, evidence: Vec::new() });
        return Ok(factors);
    }
    if record.model == serving.bundle.version().code() && scored_by_model(parts, record, item).await? {
        factors.extend(attributed(parts, scope, serving, record, item).await?);
    }
    if factors.iter().all(|f| f.reason == Reason::Exploration) {
        let origin = came_from(record, item).map_or(Reason::TasteMatch, reason_of);
        factors.push(Factor { reason: origin, weight: 0.0, evidence: Vec::new() });
    }
    factors.truncate(MAX_FACTORS);
    Ok(factors)
}

/// Whether the ranking model's score of this item entered the decision: on a miss unless it was late, on a hit if the
/// item stood on the visitor's own list.
async fn scored_by_model(parts: &Parts, record: &DecisionRecord, item: ItemIx) -> Result<bool, OriginError> {
    if Path::from_code(record.path) == Some(Path::Miss) {
        return Ok(!record.unranked);
    }
    let Some(hash) = ObjectHash::from_slice(&record.own) else { return Ok(false) };
    let own = parts.decisions.log().object(hash).await?;
    let own = own.and_then(|bytes| wire::ScoredItems::decode(&bytes[..]).ok());
    Ok(own.is_some_and(|own| own.items.contains(&item.0)))
}

fn came_from(record: &DecisionRecord, item: ItemIx) -> Option<SourceKind> {
    record
        .sources
        .iter()
        .filter(|s| Outcome::from_code(s.outcome) == Some(Outcome::Ok) && s.items.contains(&item.0))
        .find_map(|s| SourceKind::from_code(s.source))
}

/// What each group of features did to the score, asked of the ranking model for the state the decision saw.
async fn attributed(
    parts: &Parts,
    scope: &Scope,
    serving: &Serving,
    record: &DecisionRecord,
    item: ItemIx,
) -> Result<Vec<Factor>, OriginError> {
    let Some(hash) = ObjectHash::from_slice(&record.state) else { return Ok(Vec::new()) };
    let Some(bytes) = parts.decisions.log().object(hash).await? else { return Ok(Vec::new()) };
    let user = wire::UserState::decode(&bytes[..]).map_err(|_| convert::WireError::new("state", "is malformed"))?;
    let state = convert::user_state(Some(&user))?;
    let message = ranking::AttributeRequest {
        user: Some(user),
        context: record.context,
        now: record.now,
        item: item.0,
        model_version: serving.bundle.version().to_string(),
    };
    let max = parts.config.deadlines.ranking.get();
    let Ok(answer) = parts.clients.ranking.clone().attribute(attune_rpc::request(message, scope, max)).await else {
        return Ok(Vec::new());
    };
    let contributions = answer.into_inner().contributions;
    let strongest = contributions.iter().map(|c| c.logit).fold(0.0, f32::max);
    let mut factors: Vec<Factor> = Vec::new();
    for c in contributions.iter().filter(|c| c.logit > 0.0 && c.logit >= MIN_SHARE * strongest) {
        let group = FeatureGroup::ALL.into_iter().find(|group| group.as_str() == c.group);
        let Some(reason) = group.and_then(FeatureGroup::reason) else { continue };
        if !factors.iter().any(|f| f.reason == reason) {
            factors.push(Factor {
                reason,
                weight: c.logit,
                evidence: evidence(serving, &state, reason, item, &c.evidence),
            });
        }
    }
    factors.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    Ok(factors)
}

fn evidence(serving: &Serving, state: &UserState, reason: Reason, item: ItemIx, items: &[u32]) -> Vec<String> {
    match reason {
        Reason::FavouriteCategory => {
            // The item's categories, those the visitor met most often first.
            let of = |ix: ItemIx| serving.catalogue.get(ix).map_or(&[][..], |item| &item.categories[..]);
            let count =
                |category: &String| state.window.events().iter().filter(|e| of(e.item).contains(category)).count();
            let mut met: Vec<_> = of(item).iter().map(|c| (count(c), c)).filter(|(n, _)| *n > 0).collect();
            met.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
            met.into_iter().take(MAX_EVIDENCE).map(|(_, c)| c.clone()).collect()
        }
        _ => items
            .iter()
            .filter_map(|&ix| serving.catalogue.get(ItemIx(ix)))
            .map(|item| item.title.clone())
            .filter(|title| !title.is_empty())
            .take(MAX_EVIDENCE)
            .collect(),
    }
}

async fn write(
    parts: &Parts,
    scope: &Scope,
    serving: &Serving,
    item: ItemIx,
    factors: &[Factor],
) -> Option<Streaming<llm::ReasonResponse>> {
    let item = serving.catalogue.get(item)?;
    let message = llm::ReasonRequest {
        item_title: item.title.clone(),
        item_categories: item.categories.clone(),
        factors: factors
            .iter()
            .map(|f| llm::Factor { code: f.reason.as_str().to_owned(), weight: f.weight, evidence: f.evidence.clone() })
            .collect(),
        page: String::new(),
    };
    let deadlines = &parts.config.deadlines;
    let mut llm = parts.clients.llm.clone();
    let opening = llm.reason(attune_rpc::request(message, scope, deadlines.explain.get()));
    // A service that hangs does not even begin; there must be time left to say it without its help.
    let answer = tokio::time::timeout(deadlines.explain_open.get(), opening).await;
    answer.ok()?.ok().map(tonic::Response::into_inner)
}

/// The reason in plain words, for the time the `llm` service is away.
pub(crate) fn plain(factors: &[Factor]) -> String {
    let names: Vec<_> = factors.iter().map(|f| f.reason.as_str().replace('_', " ")).collect();
    format!("Recommended because of: {}.", names.join(", "))
}

/// One whole sentence, from the `llm` service or, where it is away, in plain words.
pub(crate) async fn sentence(parts: &Parts, scope: &Scope, serving: &Serving, item: ItemIx, factor: Factor) -> String {
    let factors = [factor];
    let Some(mut pieces) = write(parts, scope, serving, item, &factors).await else { return plain(&factors) };
    let mut text = String::new();
    while let Ok(Some(piece)) = pieces.message().await {
        text.push_str(&piece.text);
    }
    if text.is_empty() { plain(&factors) } else { text }
}
