//! The incoming adapter: convert, call, convert.

use crate::factors::{Factors, RawFactor};
use crate::reason::{Answer, Piece, Reasoner};
use attune_proto::llm::v1 as wire;
use attune_proto::llm::v1::llm_service_server::LlmService;
use attune_telemetry::{Label as _, Scope};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct LlmGrpc {
    reasoner: Arc<Reasoner>,
}

impl LlmGrpc {
    pub fn new(reasoner: Arc<Reasoner>) -> Self {
        Self { reasoner }
    }
}

#[tonic::async_trait]
impl LlmService for LlmGrpc {
    type ReasonStream = BoxStream<'static, Result<wire::ReasonResponse, Status>>;

    async fn reason(&self, request: Request<wire::ReasonRequest>) -> Result<Response<Self::ReasonStream>, Status> {
        let scope = Scope::of(&request);
        let factors = factors(request.into_inner()).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let answer: Answer = self.reasoner.reason(factors, scope);
        Ok(Response::new(answer.map(|piece| Ok(to_wire(piece))).boxed()))
    }
}

fn factors(request: wire::ReasonRequest) -> Result<Factors, crate::factors::FactorsError> {
    let raw: Vec<_> = request
        .factors
        .into_iter()
        .map(|f| RawFactor { code: f.code, weight: f.weight, evidence: f.evidence })
        .collect();
    Factors::new(&request.item_title, &request.item_categories, &raw)
}

fn to_wire(piece: Piece) -> wire::ReasonResponse {
    match piece {
        Piece::Text(text) => wire::ReasonResponse { text, ..Default::default() },
        Piece::Last(summary) => wire::ReasonResponse {
            text: String::new(),
            last: true,
            model: summary.model.as_str().to_owned(),
            cached: summary.cached,
            input_tokens: summary.tokens.input,
            output_tokens: summary.tokens.output,
            fallback: summary.fallback.map_or("", |why| why.text()).to_owned(),
        },
    }
}
