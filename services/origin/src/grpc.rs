//! `attune.origin.v1`: convert, call, convert.

use crate::explain::Factor;
use crate::page::{self, Page, PageRequest};
use crate::{OriginError, Parts, accept, erase, explain, views, watch};
use attune_decision::CohortKey;
use attune_domain::{ItemIx, LoggedEvent, Tier, Uid};
use attune_proto::llm::v1 as llm;
use attune_proto::origin::v1 as wire;
use attune_proto::origin::v1::origin_service_server::OriginService;
use attune_proto::{convert, convert::WireError, state::v1 as state};
use attune_rpc::Scope;
use attune_storage::{Appended, Decision, ObjectHash, Record, Topic};
use attune_telemetry::PersonalizationComplete;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use prost::Message as _;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Decisions that one call lists at most.
pub const MAX_LISTED: usize = 100_000;

pub struct OriginGrpc {
    parts: Arc<Parts>,
}

impl OriginGrpc {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl OriginService for OriginGrpc {
    type WatchStream = tokio_stream::wrappers::ReceiverStream<Result<wire::WatchResponse, Status>>;
    type ExplainStream = BoxStream<'static, Result<wire::ExplainResponse, Status>>;

    async fn personalize(&self, request: Request<wire::PersonalizeRequest>) -> Answer<wire::PersonalizeResponse> {
        let scope = Scope::of(&request);
        let message = request.into_inner();
        let page_request = page_request(&message)?;
        let page = page::assemble(&self.parts, &scope, &page_request).await;
        let set = if message.want_candidate_set {
            let key = views::cohort(&page.serving, &page.state, page_request.context);
            Some(self.parts.cohort_sets.get(&self.parts, &scope, key, message.now).await)
        } else {
            None
        };
        scope.span.set("tier", Tier::Origin.as_str());
        let explanations = if message.explain { self.explanations(&scope, &page).await } else { Vec::new() };
        let llm = !explanations.is_empty();
        let complete = PersonalizationComplete {
            request_id: page_request.request_id,
            // Zeroes stand for a visitor without any id.
            user: (page_request.uid != Uid([0; 17])).then_some(page_request.uid),
            latency_ms: scope.span.elapsed(),
            candidates_retrieved: page.decided.eligible,
            candidates_ranked: page.decided.eligible,
            tier: if llm { Tier::Llm } else { Tier::Origin },
            cache_hit: false,
            level: page.ladder.level,
            device: page_request.context.device,
            geo: page_request.context.geo,
            page_type: page_request.context.page,
        };
        self.parts.telemetry.log_request(complete, &scope.span);
        Ok(Response::new(answer(page, set.as_deref(), message.want_user_view, explanations, llm)))
    }

    async fn get_candidate_set(&self, request: Request<wire::GetCandidateSetRequest>) -> Answer<state::CandidateSet> {
        let scope = Scope::of(&request);
        let message = request.into_inner();
        let key = CohortKey::parse(&message.cohort).ok_or(WireError::new("cohort", "is malformed"))?;
        let set = self.parts.cohort_sets.get(&self.parts, &scope, key, message.now).await;
        Ok(Response::new(state::CandidateSet::clone(&set)))
    }

    async fn get_user_view(&self, request: Request<wire::GetUserViewRequest>) -> Answer<state::UserView> {
        let scope = Scope::of(&request);
        let message = request.into_inner();
        let uid = convert::uid(&message.uid)?;
        let view = views::build(&self.parts, &scope, uid, message.min_offset, message.now).await?;
        Ok(Response::new(view))
    }

    async fn feedback(&self, request: Request<wire::FeedbackRequest>) -> Answer<wire::FeedbackResponse> {
        let scope = Scope::of(&request);
        let events = request.into_inner().records.iter().map(accept::from_wire).collect::<Result<Vec<_>, _>>()?;
        let results = accept::accept(&self.parts, &scope, events)
            .await?
            .into_iter()
            .map(|accepted| wire::FeedbackResult {
                duplicate: matches!(accepted.appended, Appended::Duplicate(_)),
                next_offset: accepted.appended.offset() + 1,
                event: Some((&accepted.event).into()),
            })
            .collect();
        Ok(Response::new(wire::FeedbackResponse { results }))
    }

    async fn watch(&self, request: Request<Streaming<wire::WatchRequest>>) -> Answer<Self::WatchStream> {
        let stream = watch::serve(Arc::clone(&self.parts), request.into_inner()).await?;
        Ok(Response::new(tokio_stream::wrappers::ReceiverStream::new(stream)))
    }

    async fn append_decisions(
        &self,
        request: Request<wire::AppendDecisionsRequest>,
    ) -> Answer<wire::AppendDecisionsResponse> {
        let message = request.into_inner();
        let objects = message
            .objects
            .into_iter()
            .map(|o| {
                let hash = ObjectHash::from_slice(&o.hash).ok_or(WireError::new("objects.hash", "must be 16 bytes"))?;
                if ObjectHash::of(&o.content) != hash {
                    return Err(WireError::new("objects.content", "does not have the hash it comes under"));
                }
                Ok((hash, o.content))
            })
            .collect::<Result<_, _>>()?;
        self.parts.decisions.record_all(message.records, objects);
        Ok(Response::new(wire::AppendDecisionsResponse {}))
    }

    async fn get_decision(&self, request: Request<wire::GetDecisionRequest>) -> Answer<wire::GetDecisionResponse> {
        let id = convert::request_id(&request.into_inner().request_id)?;
        match self.parts.decisions.get(id).await.map_err(OriginError::from)? {
            Decision::Found(record) => Ok(Response::new(wire::GetDecisionResponse { record, erased: false })),
            Decision::Erased => Ok(Response::new(wire::GetDecisionResponse { record: Bytes::new(), erased: true })),
            Decision::Unknown => Err(OriginError::UnknownDecision.into()),
        }
    }

    async fn get_object(&self, request: Request<wire::GetObjectRequest>) -> Answer<wire::GetObjectResponse> {
        let hash =
            ObjectHash::from_slice(&request.into_inner().hash).ok_or(WireError::new("hash", "must be 16 bytes"))?;
        match self.parts.decisions.log().object(hash).await.map_err(OriginError::from)? {
            Some(content) => Ok(Response::new(wire::GetObjectResponse { content })),
            None => Err(Status::not_found("no such object")),
        }
    }

    async fn list_decisions(
        &self,
        request: Request<wire::ListDecisionsRequest>,
    ) -> Answer<wire::ListDecisionsResponse> {
        let max = (request.into_inner().max as usize).min(MAX_LISTED);
        let ids = self.parts.decisions.log().recent(max).await.map_err(OriginError::from)?;
        let request_ids = ids.iter().map(|id| Bytes::copy_from_slice(&id.0)).collect();
        Ok(Response::new(wire::ListDecisionsResponse { request_ids }))
    }

    async fn explain(&self, request: Request<wire::ExplainRequest>) -> Answer<Self::ExplainStream> {
        let scope = Scope::of(&request);
        let message = request.into_inner();
        let id = convert::request_id(&message.request_id)?;
        let explanation = explain::explain(&self.parts, &scope, id, &message.item_id).await?;
        let reasons: Vec<String> = explanation.factors.iter().map(|f| f.reason.as_str().to_owned()).collect();
        let plain = plain_answer(&explanation.factors, &reasons);
        let stream: Self::ExplainStream = match explanation.text {
            None => stream::iter([Ok(plain)]).boxed(),
            Some(pieces) => {
                let mut plain = Some(plain);
                let piece = move |piece: Result<llm::ReasonResponse, Status>| match (piece, plain.take()) {
                    (Ok(piece), _) => Ok(wire::ExplainResponse {
                        text: piece.text,
                        reasons: if piece.last { reasons.clone() } else { Vec::new() },
                        faithfulness: None,
                        model: piece.model,
                        cached: piece.cached,
                        last: piece.last,
                    }),
                    // Broken off before the first piece.
                    (Err(_), Some(plain)) => Ok(plain),
                    (Err(status), None) => Err(status),
                };
                pieces.map(piece).boxed()
            }
        };
        Ok(Response::new(stream))
    }

    async fn put_item(&self, request: Request<wire::PutItemRequest>) -> Answer<wire::PutItemResponse> {
        let traceparent = Scope::of(&request).span.traceparent().to_text();
        let message = request.into_inner();
        let item = convert::item(message.item.as_ref().ok_or(WireError::new("item", "is missing"))?)?;
        let (offset, ix) = self.parts.catalogue.put(item, traceparent).await?;
        Ok(Response::new(wire::PutItemResponse { offset, ix: ix.0 }))
    }

    async fn delete_item(&self, request: Request<wire::DeleteItemRequest>) -> Answer<wire::DeleteItemResponse> {
        let traceparent = Scope::of(&request).span.traceparent().to_text();
        let (offset, _) = self.parts.catalogue.withdraw(&request.into_inner().item_id, traceparent).await?;
        Ok(Response::new(wire::DeleteItemResponse { offset }))
    }

    async fn put_user(&self, request: Request<wire::PutUserRequest>) -> Answer<wire::PutUserResponse> {
        let traceparent = Scope::of(&request).span.traceparent().to_text();
        let message = request.into_inner();
        convert::uid(&message.uid)?;
        let key = message.uid.clone();
        let value = state::UserAttributes {
            uid: message.uid,
            attributes: message.attributes,
            accepted_at: (self.parts.clock)(),
            imported: false,
            schema: convert::SCHEMA,
        };
        let record = Record { key, value: Bytes::from(value.encode_to_vec()), traceparent };
        let appended =
            self.parts.event_log.append(Topic::UserUpdates, vec![(record, None)]).await.map_err(OriginError::from)?;
        Ok(Response::new(wire::PutUserResponse { offset: appended.first().map_or(0, |a| a.offset()) }))
    }

    async fn erase_user(&self, request: Request<wire::EraseUserRequest>) -> Answer<wire::EraseUserResponse> {
        let scope = Scope::of(&request);
        let uid = convert::uid(&request.into_inner().uid)?;
        Ok(Response::new(erase::erase(&self.parts, &scope, uid).await?))
    }
}

impl OriginGrpc {
    /// A sentence for each item of a page, from where the item came; the model's factors are one `explain` away.
    async fn explanations(&self, scope: &Scope, page: &Page) -> Vec<String> {
        let calls = page.decided.items.iter().zip(&page.decided.reasons).map(|(&item, &reason)| {
            let factor = Factor { reason, weight: 0.0, evidence: Vec::new() };
            explain::sentence(&self.parts, scope, &page.serving, ItemIx(item), factor)
        });
        futures::future::join_all(calls).await
    }
}

fn page_request(message: &wire::PersonalizeRequest) -> Result<PageRequest, WireError> {
    let uid = convert::uid(&message.uid)?;
    let pending = message
        .pending
        .iter()
        .zip(&message.pending_offsets)
        .map(|(event, &offset)| Ok((offset, convert::event(uid, event)?)))
        .collect::<Result<Vec<(u64, LoggedEvent)>, WireError>>()?;
    if !(1..=100).contains(&message.limit) {
        return Err(WireError::new("limit", "must be from 1 to 100"));
    }
    Ok(PageRequest {
        uid,
        context: convert::context(message.context.as_ref())?,
        limit: message.limit as usize,
        item: Some(ItemIx(message.item)).filter(|item| item.is_known()),
        query: message.query.clone(),
        request_id: convert::request_id(&message.request_id)?,
        now: message.now,
        seed: message.seed,
        holdout: message.holdout,
        pending,
        min_offset: message.min_offset,
    })
}

fn answer(
    page: Page,
    set: Option<&state::CandidateSet>,
    want_view: bool,
    explanations: Vec<String>,
    llm: bool,
) -> wire::PersonalizeResponse {
    let user_view = want_view.then(|| views::to_wire(&page.serving, &page.state, &page.own));
    wire::PersonalizeResponse {
        items: page.decided.items,
        scores: page.decided.scores,
        reasons: Bytes::from_iter(page.decided.reasons.iter().map(|r| r.code())),
        level: page.ladder.level.code().into(),
        level_reason: page.ladder.reason.map(|r| r.as_str().to_owned()).unwrap_or_default(),
        model_version: page.serving.bundle.version().to_string(),
        watermark: page.state.watermark,
        candidate_set: set.cloned(),
        user_view,
        llm,
        explanations,
    }
}

fn plain_answer(factors: &[Factor], reasons: &[String]) -> wire::ExplainResponse {
    wire::ExplainResponse {
        text: explain::plain(factors),
        reasons: reasons.to_vec(),
        faithfulness: None,
        model: "template".to_owned(),
        cached: false,
        last: true,
    }
}
