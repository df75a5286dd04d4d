//! The visitors' port: connections, routes, documents. Adopt, call, convert.

mod head;
pub(crate) mod respond;
mod serve;

pub use serve::{BoundEdge, bind};

use crate::page::{self, PageRequest};
use crate::problem::{Problem, ProblemKind};
use crate::request::Personalize;
use crate::{Parts, events, explanation};
use attune_domain::{CacheStatus, LevelReason, RequestId};
use attune_telemetry::{
    ExplanationGiven, Failure, FallbackUsed, FeedbackAccepted, Kind, PersonalizationComplete, RequestFailed,
    RequestShed, Route, Span,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use respond::Body;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const MAX_BODY: usize = 1 << 20;

/// Who a request is, and when it came: on the wall clock, and on the one that its time is taken with.
#[derive(Clone, Copy)]
struct Arrival {
    id: RequestId,
    now: i64,
    begun: Instant,
}

/// A request's answer, with what the telemetry of the door wants to know.
struct Answer {
    response: Response<Body>,
    cache: Option<CacheStatus>,
}

/// Answers one request.
pub(crate) async fn handle(parts: Arc<Parts>, client: IpAddr, request: Request<Incoming>) -> Response<Body> {
    let begun = Instant::now();
    let now = (parts.clock)();
    let id = serve::new_request_id(now);
    let (name, route_of) = match request.uri().path() {
        "/v1/personalize" => ("edge.personalize", Route::Personalize),
        "/v1/feedback" => ("edge.feedback", Route::Feedback),
        "/v1/explain" => ("edge.explain", Route::Explain),
        _ => ("edge.request", Route::Other),
    };
    // What a caller from outside says about tracing is not believed: every answer has a trace of its own.
    let span = parts.telemetry.admit(name, Kind::Server, request.headers(), id).guard();
    span.with(|span| {
        span.set("pop_location", &parts.pop).set("http.request.method", respond::method_name(request.method()));
    });
    let arrival = Arrival { id, now, begun };
    let mut unread = None;
    let answer = route(&parts, &span, client, request, arrival, &mut unread).await.unwrap_or_else(|problem| {
        if name == "edge.personalize" {
            parts.metrics.page_refused();
        }
        Answer { response: respond::problem(&problem, id), cache: None }
    });
    let status = answer.response.status().as_u16();
    span.set("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.fail("http");
    }
    log_refusal(&parts, &span, id, status, route_of);
    parts.metrics.request(answer.cache, status, begun.elapsed(), &span);
    if let Some(request) = unread {
        // The client's time, not the request's.
        drop(span);
        Box::pin(discard(*request, parts.config.limits.receive.get())).await;
    }
    answer.response
}

/// A refusal that is not the visitor's mistake.
pub(crate) fn log_refusal(parts: &Parts, span: &Span, request_id: RequestId, status_code: u16, route: Route) {
    if status_code >= 500 {
        let (failure, latency_ms) = (Failure::Unavailable, span.elapsed());
        parts.telemetry.log(&RequestFailed { request_id, failure, latency_ms, status_code, route }, Some(span));
    } else if status_code == 429 {
        parts.telemetry.log(&RequestShed { request_id, failure: Failure::Overloaded, status_code, route }, Some(span));
    }
}

/// A request that is refused for its route comes back in `unread`.
async fn route(
    parts: &Arc<Parts>,
    span: &Span,
    client: IpAddr,
    request: Request<Incoming>,
    arrival: Arrival,
    unread: &mut Option<Box<Request<Incoming>>>,
) -> Result<Answer, Problem> {
    let id = arrival.id;
    match (request.uri().path(), request.method()) {
        ("/v1/personalize", &Method::POST | &Method::GET) => personalize(parts, span, request, arrival).await,
        // On the heap: hyper moves the future of every request, and these would make that of a page large.
        ("/v1/feedback", &Method::POST) => Box::pin(feedback(parts, span, request, arrival)).await,
        ("/v1/explain", &Method::GET) => Box::pin(explain(parts, span, &request, id)).await,
        ("/v1/about", &Method::GET) if client.is_loopback() => Ok(about(parts, id)),
        (path, _) => {
            let problem = match path {
                "/v1/personalize" => not_allowed("GET, POST"),
                "/v1/feedback" => not_allowed("POST"),
                "/v1/explain" => not_allowed("GET"),
                _ => ProblemKind::UnknownRoute.into(),
            };
            *unread = Some(Box::new(request));
            Err(problem)
        }
    }
}

/// For tools on the same machine: where the origin, the bundle and the traces are.
fn about(parts: &Parts, id: RequestId) -> Answer {
    let telemetry = &parts.config.process.telemetry;
    let document = serde_json::json!({
        "origin": parts.config.own.origin,
        "bundle": parts.config.own.bundle,
        "model_version": parts.serving.load().bundle.version(),
        "traces": telemetry.traces,
        "sample_normal": telemetry.sample_normal,
        "sample_edge_only": telemetry.sample_edge_only,
    });
    Answer { response: respond::json(StatusCode::OK, document.to_string().into_bytes(), id), cache: None }
}

pub(crate) fn not_allowed(allow: &'static str) -> Problem {
    Problem { allow: Some(allow), ..ProblemKind::MethodNotAllowed.into() }
}

async fn personalize(
    parts: &Arc<Parts>,
    span: &Span,
    request: Request<Incoming>,
    Arrival { id, now, begun }: Arrival,
) -> Result<Answer, Problem> {
    let min_version = min_version(request.headers());
    let body = if request.method() == Method::GET {
        Personalize::from_query(request.uri().query().unwrap_or_default())?
    } else {
        Personalize::from_body(&read_json(request, parts.config.limits.receive.get()).await?)?
    };
    let asked = PageRequest::new(parts, &body, id, now, min_version?);
    drop(body);
    let page = page::personalize(parts, span, &asked).await;

    let elapsed = begun.elapsed();
    let hit = page.cache == CacheStatus::Hit;
    span.with(|span| {
        span.set("cache_hit", hit).set("tier", page.tier.as_str()).set("level", i64::from(page.level.code()));
        if let Some(reason) = page.reason {
            span.set("level_reason", reason.as_str());
        }
    });
    let explored = page.decided.slots.iter().filter(|s| s.exploration).count();
    parts.metrics.page(page.tier, page.level, explored, page.decided.items.len(), elapsed);
    let eligible = page.decided.eligible;
    let complete = PersonalizationComplete {
        request_id: id,
        user: asked.uid,
        latency_ms: elapsed,
        candidates_retrieved: eligible,
        candidates_ranked: eligible,
        tier: page.tier,
        cache_hit: hit,
        level: page.level,
        device: asked.context.device,
        geo: asked.context.geo,
        page_type: asked.context.page,
    };
    parts.telemetry.log_request(complete, span);
    if let Some(reason) = page.reason.filter(|reason| *reason != LevelReason::BaselineHoldout) {
        let fallback = FallbackUsed { request_id: id, level: page.level, reason, page_type: asked.context.page };
        parts.telemetry.log(&fallback, Some(span));
    }
    Ok(Answer { response: respond::page(&page, id, elapsed), cache: Some(page.cache) })
}

async fn feedback(
    parts: &Arc<Parts>,
    span: &Span,
    request: Request<Incoming>,
    Arrival { id, now, .. }: Arrival,
) -> Result<Answer, Problem> {
    let body = read_json(request, parts.config.limits.receive.get()).await?;
    let receipt = events::feedback(parts, span, &body, now).await?;
    let count = |events: usize| u32::try_from(events).unwrap_or(u32::MAX);
    let accepted = FeedbackAccepted {
        request_id: id,
        latency_ms: span.elapsed(),
        accepted: count(receipt.accepted),
        duplicates: count(receipt.duplicates),
        rejected: count(receipt.rejected.len()),
    };
    parts.telemetry.log_request(accepted, span);
    let document = serde_json::to_vec(&receipt).unwrap_or_default();
    let mut response = respond::json(StatusCode::ACCEPTED, document, id);
    if let Ok(version) = http::HeaderValue::from_str(&receipt.version.to_string()) {
        response.headers_mut().insert(respond::VERSION, version);
    }
    Ok(Answer { response, cache: None })
}

async fn explain(
    parts: &Arc<Parts>,
    span: &Span,
    request: &Request<Incoming>,
    id: RequestId,
) -> Result<Answer, Problem> {
    let question = explanation::Question::from_query(request.uri().query().unwrap_or_default())?;
    let pieces = explanation::ask(parts, span, &question).await?;
    let wants_stream = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    let response = if wants_stream {
        respond::event_stream(pieces, id)
    } else {
        let explanation = explanation::collect(pieces).await?;
        respond::json(StatusCode::OK, serde_json::to_vec(&explanation).unwrap_or_default(), id)
    };
    let given = ExplanationGiven { request_id: id, latency_ms: span.elapsed(), streamed: wants_stream };
    parts.telemetry.log_request(given, span);
    Ok(Answer { response, cache: None })
}

/// The newest version the visitor's session has seen, from `x-attune-version`.
fn min_version(headers: &HeaderMap) -> Result<u64, Problem> {
    match headers.get(respond::VERSION) {
        None => Ok(0),
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Problem::malformed("the header x-attune-version must be a whole number")),
    }
}

/// A JSON body of at most [`MAX_BODY`] bytes that arrives in time.
pub(crate) async fn read_json(request: Request<Incoming>, limit: Duration) -> Result<bytes::Bytes, Problem> {
    let media_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let is_json = media_type.is_none_or(|text| {
        let essence = text.split(|&b| b == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
    });
    let sends = sends(&request);
    let deadline = Instant::now() + limit;
    let mut body = request.into_body();
    let read =
        if is_json { read_body(&mut body, deadline).await } else { Err(ProblemKind::UnsupportedMediaType.into()) };
    if read.is_err() && sends {
        drain(&mut body, deadline).await;
    }
    read
}

/// Reads past the body of a request that is refused whatever it says.
pub(crate) async fn discard(request: Request<Incoming>, limit: Duration) {
    if sends(&request) {
        drain(&mut request.into_body(), Instant::now() + limit).await;
    }
}

/// Who asks before sending has nothing on the way.
fn sends(request: &Request<Incoming>) -> bool {
    !request.headers().contains_key(header::EXPECT)
}

async fn read_body(body: &mut Incoming, deadline: Instant) -> Result<bytes::Bytes, Problem> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(ProblemKind::BodyTooLarge.into());
    }
    match tokio::time::timeout_at(deadline.into(), Limited::new(body, MAX_BODY).collect()).await {
        Err(_) => Err(Problem::malformed("the body did not arrive in time")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ProblemKind::BodyTooLarge.into()),
        Ok(Err(_)) => Err(Problem::malformed("the body broke off")),
    }
}

/// Reads on what a refused client is still sending, up to sixteen times what is allowed: a connection that is closed over
/// unread bytes is reset, and the client never reads why (RFC 9112 section 9.6).
async fn drain(body: &mut Incoming, deadline: Instant) {
    let rest = async {
        let mut left = 16 * MAX_BODY;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, bytes::Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _in_time = tokio::time::timeout_at(deadline.into(), rest).await;
}
