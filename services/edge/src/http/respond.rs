//! Answers as bytes.

use crate::explanation::Explanation;
use crate::page::Page;
use crate::problem::Problem;
use crate::request::format_time;
use attune_domain::{CacheStatus, ItemIx, RequestId};
use attune_proto::origin::v1 as origin;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;
use tonic::Streaming;

type Events = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;
/// Nearly always one buffer; a stream only for server-sent events.
pub(crate) type Body = Either<Full<Bytes>, StreamBody<Events>>;

const TRACE_RESPONSE: &str = "traceresponse";
const SERVER_TIMING: &str = "server-timing";
const CACHE_STATUS: &str = "cache-status";

#[derive(Serialize)]
struct Document<'a> {
    request_id: &'a str,
    items: Vec<DocumentItem<'a>>,
    tier: &'static str,
    cache: &'static str,
    level: u8,
    level_reason: Option<&'static str>,
    source: &'static str,
    variant: &'static str,
    model_version: &'a str,
    watermark: Option<String>,
}

#[derive(Serialize)]
struct DocumentItem<'a> {
    item_id: &'a str,
    score: f32,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a str>,
}

pub(crate) fn page(page: &Page, id: RequestId, elapsed: Duration) -> Response<Body> {
    let hex = id.to_hex();
    let catalogue = &page.serving.catalogue;
    let items = page.decided.items.iter().zip(&page.decided.scores).zip(&page.decided.reasons).enumerate();
    let document = Document {
        request_id: std::str::from_utf8(&hex).unwrap_or_default(),
        items: items
            .filter_map(|(slot, ((&item, &score), reason))| {
                Some(DocumentItem {
                    item_id: catalogue.get(ItemIx(item))?.id.as_str(),
                    score,
                    reason: reason.as_str(),
                    explanation: page.explanations.get(slot).map(String::as_str),
                })
            })
            .collect(),
        tier: page.tier.as_str(),
        cache: page.cache.as_str(),
        level: page.level.code(),
        level_reason: page.reason.map(|reason| reason.as_str()),
        source: page.source().as_str(),
        variant: page.variant.as_str(),
        model_version: &page.serving.bundle.version().0,
        watermark: page.watermark.and_then(format_time),
    };
    let mut body = Vec::with_capacity(256 + 80 * document.items.len());
    // Writing to a vector cannot fail, and the document has no map with odd keys.
    let _written = serde_json::to_writer(&mut body, &document).is_ok();
    let mut response = json(StatusCode::OK, body, id);
    let headers = response.headers_mut();
    let status = match page.cache {
        CacheStatus::Hit => "attune-edge; hit",
        CacheStatus::Miss => "attune-edge; fwd=miss",
    };
    headers.insert(CACHE_STATUS, HeaderValue::from_static(status));
    let mut text = String::with_capacity(24);
    use std::fmt::Write as _;
    let _fits = write!(text, "edge;dur={:.3}", elapsed.as_secs_f64() * 1e3).is_ok();
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        headers.insert(SERVER_TIMING, value);
    }
    headers.insert("x-attune-version", HeaderValue::from(page.version));
    response
}

pub(crate) fn json(status: StatusCode, body: Vec<u8>, id: RequestId) -> Response<Body> {
    with_type(status, Either::Left(Full::new(Bytes::from(body))), "application/json", id)
}

pub(crate) fn problem(problem: &Problem, id: RequestId) -> Response<Body> {
    let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = Either::Left(Full::new(Bytes::from(problem.body(id))));
    let mut response = with_type(status, body, "application/problem+json", id);
    if let Some(seconds) = problem.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = problem.allow {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    response
}

fn with_type(status: StatusCode, body: Body, media_type: &'static str, id: RequestId) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    let mut trace = [0; 39];
    trace[..3].copy_from_slice(b"00-");
    trace[3..35].copy_from_slice(&id.to_hex());
    trace[35..].copy_from_slice(b"--00");
    if let Ok(value) = HeaderValue::from_bytes(&trace) {
        headers.insert(TRACE_RESPONSE, value);
    }
    response
}

/// The pieces of an explanation as server-sent events: `data` with a piece of text each, then `done` with the rest.
pub(crate) fn event_stream(pieces: Streaming<origin::ExplainResponse>, id: RequestId) -> Response<Body> {
    let events = stream::unfold(Some(pieces), |pieces| async {
        let mut pieces = pieces?;
        match pieces.message().await {
            Ok(Some(piece)) => {
                let last = piece.last;
                let text = serde_json::json!({ "text": piece.text });
                let mut event = if piece.text.is_empty() { String::new() } else { format!("data: {text}\n\n") };
                if last {
                    let mut whole = Explanation::default();
                    whole.add(origin::ExplainResponse { text: String::new(), ..piece });
                    let rest = serde_json::json!({
                        "reasons": whole.reasons, "faithfulness": whole.faithfulness,
                        "model": whole.model, "cached": whole.cached,
                    });
                    event.push_str(&format!("event: done\ndata: {rest}\n\n"));
                }
                Some((Ok(Frame::data(Bytes::from(event))), (!last).then_some(pieces)))
            }
            Ok(None) => None,
            Err(_) => Some((Ok(Frame::data(Bytes::from_static(b"event: error\ndata: {}\n\n"))), None)),
        }
    });
    with_type(StatusCode::OK, Either::Right(StreamBody::new(events.boxed())), "text/event-stream", id)
}

/// Methods as a closed list: what came from outside is not an attribute.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
