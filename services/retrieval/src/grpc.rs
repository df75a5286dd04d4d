//! `attune.retrieval.v1` over the retriever: convert, call, convert.

use crate::error::RetrievalError;
use crate::retrieve::{Retrieved, Retriever};
use crate::sources::Ask;
use attune_domain::{ItemIx, PageType};
use attune_proto::convert;
use attune_proto::retrieval::v1::retrieval_service_server::RetrievalService;
use attune_proto::retrieval::v1::{RetrieveRequest, RetrieveResponse, Source};
use attune_telemetry::Scope;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Patience with a caller that does not say how much it has.
const DEFAULT_DEADLINE: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub struct RetrievalGrpc {
    retriever: Arc<Retriever>,
}

impl RetrievalGrpc {
    pub fn new(retriever: Arc<Retriever>) -> Self {
        Self { retriever }
    }
}

#[tonic::async_trait]
impl RetrievalService for RetrievalGrpc {
    async fn retrieve(&self, request: Request<RetrieveRequest>) -> Result<Response<RetrieveResponse>, Status> {
        let scope = Scope::of(&request);
        let request = request.into_inner();
        let max = match request.deadline_ms {
            0 => DEFAULT_DEADLINE,
            ms => Duration::from_millis(ms.into()),
        };
        let model = request.model_version.clone();
        let found = self.retriever.retrieve(&scope, ask(request)?, &model, max).await?;
        Ok(Response::new(found.into()))
    }
}

fn ask(request: RetrieveRequest) -> Result<Ask, Status> {
    let context = convert::context(request.context.as_ref())?;
    let cluster = u16::try_from(request.cluster)
        .map_err(|_| RetrievalError::InvalidField { field: "cluster", problem: "is not a cluster of the model" })?;
    Ok(Ask {
        user_vector: request.user_vector,
        recent: request.recent_items.into_iter().map(ItemIx).collect(),
        cluster,
        item: Some(ItemIx(request.item)).filter(|item| item.is_known() && context.page == PageType::Product),
        query: if context.page == PageType::Search { request.query } else { String::new() },
        limit: request.limit as usize,
    })
}

impl From<Retrieved> for RetrieveResponse {
    fn from(found: Retrieved) -> Self {
        let source = |s: attune_decision::SourceItems| Source {
            source: s.source.code().into(),
            outcome: s.outcome.code().into(),
            items: s.items.into_iter().map(|item| item.0).collect(),
        };
        Self {
            sources: found.sources.into_iter().map(source).collect(),
            index: found.index.to_vec().into(),
            model_version: found.model.to_string(),
        }
    }
}
