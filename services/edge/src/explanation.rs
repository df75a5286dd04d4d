//! `GET /v1/explain`: why an item was in an answer, as a document or as it is being written.

use crate::Parts;
use crate::problem::{Naming, Problem, ProblemKind};
use crate::request::{Checker, parse_query};
use attune_domain::{ItemId, RequestId};
use attune_proto::origin::v1 as origin;
use attune_rpc::{Code, Deadline, Scope};
use attune_telemetry::Span;
use bytes::Bytes;
use serde::Serialize;
use tonic::Streaming;

/// A valid question.
#[derive(Debug, PartialEq)]
pub(crate) struct Question {
    pub(crate) request_id: RequestId,
    pub(crate) item_id: ItemId,
}

impl Question {
    pub(crate) fn from_query(query: &str) -> Result<Self, Problem> {
        let Some(pairs) = parse_query(query) else { return Err(Problem::malformed("the query is not UTF-8")) };
        let mut checker = Checker::new(Naming::Query);
        let (mut request_id, mut item_id) = (None, None);
        let (mut has_request, mut has_item) = (false, false);
        for (name, value) in &pairs {
            match name.as_str() {
                "request_id" => {
                    has_request = true;
                    request_id = RequestId::parse(value);
                    if request_id.is_none() {
                        checker.fail("/request_id", "must be 32 hexadecimal digits");
                    }
                }
                "item_id" => {
                    has_item = true;
                    item_id = checker.id("/item_id", value);
                }
                _ => checker.fail("/", "there is a parameter that is not known"),
            }
        }
        if !has_request {
            checker.fail("/request_id", "is missing");
        }
        if !has_item {
            checker.fail("/item_id", "is missing");
        }
        match (request_id, item_id) {
            (Some(request_id), Some(item_id)) if checker.errors.is_empty() => Ok(Self { request_id, item_id }),
            _ => Err(Problem::fields(checker.errors)),
        }
    }
}

/// A whole explanation.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Explanation {
    pub(crate) text: String,
    pub(crate) reasons: Vec<String>,
    pub(crate) faithfulness: Option<f32>,
    pub(crate) model: String,
    pub(crate) cached: bool,
}

impl Explanation {
    /// Adds a piece; gives whether it was the last.
    pub(crate) fn add(&mut self, piece: origin::ExplainResponse) -> bool {
        self.text.push_str(&piece.text);
        if piece.last {
            self.reasons = piece.reasons;
            self.faithfulness = piece.faithfulness;
            self.model = piece.model;
            self.cached = piece.cached;
        }
        piece.last
    }
}

/// Opens the stream of pieces.
pub(crate) async fn ask(
    parts: &Parts,
    span: &Span,
    question: &Question,
) -> Result<Streaming<origin::ExplainResponse>, Problem> {
    parts.recorder.flush_for([question.request_id]).await;
    let max = parts.config.explain_deadline.get();
    let scope = Scope::new(span.clone(), Deadline::after(max));
    let message = origin::ExplainRequest {
        request_id: Bytes::copy_from_slice(&question.request_id.0),
        item_id: question.item_id.as_str().to_owned(),
        now: (parts.clock)(),
    };
    let answer = attune_rpc::while_unavailable(&scope, || {
        let request = attune_rpc::request(message.clone(), &scope, max);
        let mut origin = parts.origin.clone();
        async move { origin.explain(request).await }
    });
    match answer.await {
        Ok(stream) => Ok(stream.into_inner()),
        Err(status) if matches!(Code::of(&status), Code::NotFound | Code::Erased) => {
            Err(ProblemKind::UnknownDecision.into())
        }
        Err(_) => Err(ProblemKind::Unavailable.into()),
    }
}

/// The pieces as one document.
pub(crate) async fn collect(mut pieces: Streaming<origin::ExplainResponse>) -> Result<Explanation, Problem> {
    let mut explanation = Explanation::default();
    let mut whole = false;
    loop {
        match pieces.message().await {
            Ok(Some(piece)) => whole |= explanation.add(piece),
            Ok(None) if whole => return Ok(explanation),
            Ok(None) | Err(_) => return Err(ProblemKind::Unavailable.into()),
        }
    }
}
