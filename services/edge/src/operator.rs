//! The operators' doors, on the admin address: items, visitors' attributes, erasure.

use crate::http::{discard, log_refusal, not_allowed, read_json, respond};
use crate::problem::{FieldError, Problem, ProblemKind};
use crate::request::{format_time, id_detail, item_body, user_body};
use crate::{Edge, Parts};
use attune_domain::Id;
use attune_proto::origin::v1::origin_service_client::OriginServiceClient;
use attune_proto::{convert, origin::v1 as origin};
use attune_rpc::{Channel, Code, Deadline, Scope};
use attune_telemetry::{ItemChange, ItemChanged, Kind, Route, Span, UserErased, UserUpdated};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

type Origin = OriginServiceClient<Channel>;

const DEADLINE: Duration = Duration::from_secs(10);

/// Answers what the admin port does not know itself.
#[derive(Clone)]
pub struct Operator {
    parts: Arc<Parts>,
}

#[derive(Serialize)]
struct Receipt {
    stores: Vec<ReceiptStore>,
    kept_aggregate: Vec<String>,
}

#[derive(Serialize)]
struct ReceiptStore {
    store: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    erased_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl Operator {
    pub fn new(edge: &Edge) -> Self {
        Self { parts: Arc::clone(&edge.parts) }
    }

    pub async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let id = self.parts.telemetry.new_id();
        let span = self.parts.telemetry.root("edge.operator", Kind::Server, None, id).guard();
        let route = match request.uri().path() {
            path if path.starts_with("/v1/items/") => Route::Items,
            path if path.starts_with("/v1/users/") => Route::Users,
            _ => Route::Other,
        };
        let response = match self.route(&span, request).await {
            Ok(document) => respond::json(StatusCode::OK, document.to_string().into_bytes(), id),
            Err(problem) => respond::problem(&problem, id),
        };
        log_refusal(&self.parts, &span, id, response.status().as_u16(), route);
        response.map(|body| match body {
            Either::Left(whole) => whole,
            // Nothing here is answered piece by piece.
            Either::Right(_) => Full::default(),
        })
    }

    async fn route(&self, span: &Span, request: Request<Incoming>) -> Result<serde_json::Value, Problem> {
        let path = request.uri().path().to_owned();
        let scope = Scope::new(span.clone(), Deadline::after(DEADLINE));
        let method = request.method().clone();
        let (items, users) = (path.strip_prefix("/v1/items/"), path.strip_prefix("/v1/users/"));
        let problem = match (items.or(users).map(path_id), &method) {
            (Some(Ok(id)), &Method::PUT) if items.is_some() => return self.put_item(&scope, id, request).await,
            (Some(Ok(id)), &Method::DELETE) if items.is_some() => return self.delete_item(&scope, &id).await,
            (Some(Ok(id)), &Method::PUT) => return self.put_user(&scope, &id, request).await,
            (Some(Ok(id)), &Method::DELETE) => return self.erase_user(&scope, &id).await,
            (Some(Ok(_)), _) => not_allowed("PUT, DELETE"),
            (Some(Err(problem)), _) => problem,
            (None, _) => ProblemKind::UnknownRoute.into(),
        };
        discard(request, self.parts.config.limits.receive.get()).await;
        Err(problem)
    }

    fn log_item(&self, scope: &Scope, offset: u64, change: ItemChange) {
        let event = ItemChanged { request_id: scope.span.trace_id(), offset, change };
        self.parts.telemetry.log(&event, Some(&scope.span));
    }

    async fn body(&self, request: Request<Incoming>) -> Result<Bytes, Problem> {
        read_json(request, self.parts.config.limits.receive.get()).await
    }

    /// Changes may be told twice: the second changes nothing.
    async fn ask_origin<M: Clone, A, F>(
        &self,
        scope: &Scope,
        message: M,
        call: impl Fn(Origin, tonic::Request<M>) -> F,
    ) -> Result<tonic::Response<A>, tonic::Status>
    where
        F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
    {
        attune_rpc::while_unavailable(scope, || {
            call(self.parts.origin.clone(), attune_rpc::request(message.clone(), scope, DEADLINE))
        })
        .await
    }

    async fn put_item(&self, scope: &Scope, id: Id, request: Request<Incoming>) -> Result<serde_json::Value, Problem> {
        let item = item_body(id, &self.body(request).await?)?;
        let message = origin::PutItemRequest { item: Some((&item).into()) };
        let call = |mut origin: Origin, message| async move { origin.put_item(message).await };
        let answer = self.ask_origin(scope, message, call).await;
        let offset = answer.map_err(|status| refusal(&status))?.into_inner().offset;
        self.log_item(scope, offset, ItemChange::Put);
        Ok(serde_json::json!({ "item_id": item.id.as_str(), "offset": offset }))
    }

    async fn delete_item(&self, scope: &Scope, id: &Id) -> Result<serde_json::Value, Problem> {
        let message = origin::DeleteItemRequest { item_id: id.as_str().to_owned() };
        let call = |mut origin: Origin, message| async move { origin.delete_item(message).await };
        let answer = self.ask_origin(scope, message, call).await;
        let offset = answer.map_err(|status| refusal(&status))?.into_inner().offset;
        self.log_item(scope, offset, ItemChange::Withdrawn);
        Ok(serde_json::json!({ "item_id": id.as_str(), "available": false, "offset": offset }))
    }

    async fn put_user(&self, scope: &Scope, id: &Id, request: Request<Incoming>) -> Result<serde_json::Value, Problem> {
        let attributes = user_body(&self.body(request).await?)?;
        let uid = self.parts.subject_key.uid(id.as_str());
        let message = origin::PutUserRequest {
            uid: Bytes::copy_from_slice(&uid.0),
            attributes: convert::user_attributes_to_wire(&attributes),
        };
        let call = |mut origin: Origin, message| async move { origin.put_user(message).await };
        let answer = self.ask_origin(scope, message, call).await;
        let offset = answer.map_err(|status| refusal(&status))?.into_inner().offset;
        let event = UserUpdated {
            request_id: scope.span.trace_id(),
            user: Some(uid),
            attributes: u32::try_from(attributes.0.len()).unwrap_or(u32::MAX),
            offset,
        };
        self.parts.telemetry.log(&event, Some(&scope.span));
        Ok(serde_json::json!({ "attributes": attributes.0.len(), "offset": offset }))
    }

    async fn erase_user(&self, scope: &Scope, id: &Id) -> Result<serde_json::Value, Problem> {
        let uid = self.parts.subject_key.uid(id.as_str());
        let message = origin::EraseUserRequest { uid: Bytes::copy_from_slice(&uid.0) };
        let call = |mut origin: Origin, message| async move { origin.erase_user(message).await };
        let answer = self.ask_origin(scope, message, call).await;
        let answer = answer.map_err(|status| refusal(&status))?.into_inner();
        self.parts.users.forget(&uid);
        let event = UserErased {
            request_id: scope.span.trace_id(),
            user: Some(uid),
            stores: u32::try_from(answer.stores.len()).unwrap_or(u32::MAX),
            latency_ms: scope.span.elapsed(),
        };
        self.parts.telemetry.log(&event, Some(&scope.span));
        let receipt = Receipt {
            stores: answer
                .stores
                .into_iter()
                .map(|s| ReceiptStore {
                    store: s.store,
                    erased_at: s.erased_at.and_then(format_time),
                    expires_at: s.expires_at.and_then(format_time),
                })
                .collect(),
            kept_aggregate: answer.kept_aggregate,
        };
        Ok(serde_json::to_value(receipt).unwrap_or_default())
    }
}

/// The id at the end of the path, decoded and checked.
fn path_id(raw: &str) -> Result<Id, Problem> {
    let decoded = percent_encoding::percent_decode_str(raw).decode_utf8();
    let Ok(text) = decoded else { return Err(Problem::malformed("the path is not UTF-8")) };
    Id::new(&text).map_err(|error| {
        let field = FieldError { pointer: None, parameter: Some("id".to_owned()), detail: id_detail(error).to_owned() };
        Problem::fields(vec![field])
    })
}

fn refusal(status: &tonic::Status) -> Problem {
    match Code::of(status) {
        Code::NotFound => ProblemKind::UnknownItem.into(),
        _ => ProblemKind::Unavailable.into(),
    }
}
