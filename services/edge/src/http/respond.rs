//! Answers as bytes.

use crate::explanation::Explanation;
use crate::page::Page;
use crate::problem::Problem;
use attune_domain::{CacheStatus, ItemIx, RequestId};
use attune_proto::origin::v1 as origin;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;
use tonic::Streaming;

type Events = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;
/// Nearly always one buffer; a stream only for server-sent events.
pub(crate) type Body = Either<Full<Bytes>, StreamBody<Events>>;

/// Of a page, with those that hyper adds.
const USUAL_HEADERS: usize = 10;
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
pub(super) const VERSION: HeaderName = HeaderName::from_static("x-attune-version");

pub(crate) fn page(page: &Page, id: RequestId, elapsed: Duration) -> Response<Body> {
    let body = document(page, id);
    let mut response = json(StatusCode::OK, body, id);
    let headers = response.headers_mut();
    let status = match page.cache {
        CacheStatus::Hit => "attune-edge; hit",
        CacheStatus::Miss => "attune-edge; fwd=miss",
    };
    headers.insert(CACHE_STATUS, HeaderValue::from_static(status));
    headers.insert(SERVER_TIMING, server_timing(elapsed));
    headers.insert(VERSION, HeaderValue::from(page.version));
    response
}

/// Milliseconds to three digits (W3C Server Timing).
fn server_timing(elapsed: Duration) -> HeaderValue {
    let mut millis = itoa::Buffer::new();
    let millis = millis.format(elapsed.as_millis());
    let micros = elapsed.subsec_micros() % 1000;
    let digit = |power| b'0' + (micros / power % 10) as u8;
    let mut text = Vec::with_capacity(32);
    text.extend_from_slice(b"edge;dur=");
    text.extend_from_slice(millis.as_bytes());
    text.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("edge"))
}

/// The page as JSON, written piece by piece: what is written is known, only ids and explanations need escaping.
fn document(page: &Page, id: RequestId) -> Vec<u8> {
    let mut out = Vec::with_capacity(384 + 96 * page.decided.items.len());
    out.extend_from_slice(b"{\"request_id\":\"");
    out.extend_from_slice(&id.to_hex());
    out.extend_from_slice(b"\",\"items\":[");
    let items = page.decided.items.iter().zip(&page.decided.scores).zip(&page.decided.reasons).enumerate();
    for (slot, ((&item, &score), reason)) in items {
        let Some(id) = page.serving.id_texts.get(ItemIx(item)) else { continue };
        out.extend_from_slice(if slot == 0 { b"{\"item_id\":" } else { b",{\"item_id\":" });
        out.extend_from_slice(id);
        out.extend_from_slice(b",\"score\":");
        write_score(&mut out, score);
        write_name(&mut out, b",\"reason\":", Some(reason.as_str()));
        if let Some(explanation) = page.explanations.get(slot) {
            out.extend_from_slice(b",\"explanation\":");
            write_text(&mut out, explanation);
        }
        out.push(b'}');
    }
    write_name(&mut out, b"],\"tier\":", Some(page.tier.as_str()));
    write_name(&mut out, b",\"cache\":", Some(page.cache.as_str()));
    out.extend_from_slice(b",\"level\":");
    write_value(&mut out, &page.level.code());
    write_name(&mut out, b",\"level_reason\":", page.reason.map(|reason| reason.as_str()));
    write_name(&mut out, b",\"source\":", Some(page.source().as_str()));
    write_name(&mut out, b",\"variant\":", Some(page.variant.as_str()));
    out.extend_from_slice(b",\"model_version\":");
    write_text(&mut out, &page.serving.bundle.version().0);
    write_name(&mut out, b",\"watermark\":", page.watermark.as_deref());
    out.push(b'}');
    out
}

/// A key and a name of ours, which has nothing to escape.
fn write_name(out: &mut Vec<u8>, key: &[u8], name: Option<&str>) {
    out.extend_from_slice(key);
    match name {
        Some(name) => {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        write_value(out, &text);
    }
}

/// A probability to six digits.
fn write_score(out: &mut Vec<u8>, score: f32) {
    let mut millionths = (score.clamp(0.0, 1.0) * 1e6 + 0.5) as u32;
    let mut text = *b"0.000000";
    text[0] += (millionths / 1_000_000) as u8;
    for digit in text[2..].iter_mut().rev() {
        *digit += (millionths % 10) as u8;
        millionths /= 10;
    }
    out.extend_from_slice(&text);
}

fn write_value(out: &mut Vec<u8>, value: &impl Serialize) {
    // Writing a number or a text to a vector cannot fail.
    let _written = serde_json::to_writer(out, value).is_ok();
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
    headers.reserve(USUAL_HEADERS);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_written_as_json_has_it() {
        for text in ["", "tt-12", "a\"b", "back\\slash", "tab\t", "\u{1}", "\u{7f}", "Größe \u{1F3AC}"] {
            let mut out = Vec::new();
            write_text(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(text).unwrap());
        }
        let mut out = Vec::new();
        write_name(&mut out, b"\"a\":", None);
        write_value(&mut out, &f32::NAN);
        assert_eq!(out, b"\"a\":nullnull");
    }

    #[test]
    fn times_are_written_in_milliseconds() {
        for (micros, want) in [(0, "edge;dur=0.000"), (7, "edge;dur=0.007"), (12_345_067, "edge;dur=12345.067")] {
            assert_eq!(server_timing(Duration::from_micros(micros)), want);
        }
    }

    #[test]
    fn scores_are_written_to_six_digits() {
        let cases = [
            (0.0, "0.000000"),
            (1.0, "1.000000"),
            (0.087_767_36, "0.087767"),
            (1e-9, "0.000000"),
            (f32::NAN, "0.000000"),
        ];
        for (score, want) in cases {
            let mut out = Vec::new();
            write_score(&mut out, score);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
