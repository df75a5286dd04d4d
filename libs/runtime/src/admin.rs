//! The admin port: `/livez`, `/readyz`, `/metrics`.

use crate::{Ready, Shutdown};
use attune_telemetry::Telemetry;
use attune_telemetry::encode::{Format, encode};
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Scrapers and probes are few; more connections than this wait.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers other routes of a service's admin port (the edge's item and user endpoints); None means not found.
pub type Extra = Arc<
    dyn Fn(Request<hyper::body::Incoming>) -> futures::future::BoxFuture<'static, Option<Response<Full<Bytes>>>>
        + Send
        + Sync,
>;

/// What the admin port shows.
#[derive(Clone)]
pub struct AdminState {
    /// Every service of this process.
    pub telemetries: Vec<Telemetry>,
    pub ready: Ready,
    pub extra: Option<Extra>,
}

/// Binds (port 0 lets the system choose) and serves until `shutdown` has been triggered and `linger` has passed, so that
/// draining stays visible. Returns the bound address.
pub async fn serve(
    addr: SocketAddr,
    state: AdminState,
    shutdown: &Shutdown,
    linger: Duration,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    let shutdown = shutdown.clone();
    let state = Arc::new(state);
    tokio::spawn(async move {
        let end = async {
            shutdown.wait().await;
            tokio::time::sleep(linger).await;
        };
        tokio::select! {
            () = accept(listener, state) => {}
            () = end => {}
        }
    });
    Ok(bound)
}

async fn accept(listener: TcpListener, state: Arc<AdminState>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors or the like: do not spin.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let state = state.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let service = hyper::service::service_fn(move |request| answer(request, state.clone()));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away is its own business.
            let _ = connection.await;
        });
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    state: Arc<AdminState>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let own = matches!(request.uri().path(), "/livez" | "/readyz" | "/metrics");
    if own && request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "method not allowed\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/livez" => plain(StatusCode::OK, "text/plain", "live\n".into()),
        "/readyz" => readiness(&state.ready),
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let format = Format::of_accept(accept);
            plain(StatusCode::OK, format.content_type(), encode(&state.telemetries, format))
        }
        _ => {
            let extra = match &state.extra {
                Some(extra) => extra(request).await,
                None => None,
            };
            extra.unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "text/plain", "not found\n".into()))
        }
    })
}

fn readiness(ready: &Ready) -> Response<Full<Bytes>> {
    let reasons = ready.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let reasons: Vec<_> =
        reasons.iter().map(|(name, reason)| serde_json::json!({ "condition": name, "reason": reason })).collect();
    let body = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons }).to_string();
    plain(status, "application/json", body + "\n")
}

fn plain(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
