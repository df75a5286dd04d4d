//! A small server of the chat completions protocol, for a drill in which it goes away.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

/// Grounded in any factors.
const SENTENCE: &str = "This one may well be right for you.";

pub(crate) struct ModelServer {
    pub(crate) address: SocketAddr,
    connections: Option<tokio::task::JoinHandle<()>>,
}

impl ModelServer {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let mut server = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), connections: None };
        server.restart().await?;
        Ok(server)
    }

    /// At the same address as before.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        let socket = TcpSocket::new_v4().context("open a socket")?;
        socket.set_reuseaddr(true).context("use the port again")?;
        socket.bind(self.address).context("listen as a model server")?;
        let listener = socket.listen(64).context("listen as a model server")?;
        self.address = listener.local_addr().context("listen as a model server")?;
        self.connections = Some(tokio::spawn(serve(listener)));
        Ok(())
    }

    /// Connections are cut, and new ones refused.
    pub(crate) async fn stop(&mut self) {
        if let Some(connections) = self.connections.take() {
            connections.abort();
            let _aborted = connections.await;
        }
    }
}

async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let http = hyper::server::conn::http1::Builder::new();
        connections.spawn(http.serve_connection(TokioIo::new(stream), service_fn(answer)));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    // A request that breaks off is answered to nobody.
    let _ = request.into_body().collect().await;
    let (media, body) = if path.ends_with("/chat/completions") {
        let events = [
            serde_json::json!({ "choices": [{ "index": 0, "delta": { "content": SENTENCE }, "finish_reason": null }] }),
            serde_json::json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }),
            serde_json::json!({ "choices": [], "usage": { "prompt_tokens": 200, "completion_tokens": 12 } }),
        ];
        let events: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        ("text/event-stream", format!("{events}data: [DONE]\n\n"))
    } else {
        ("application/json", serde_json::json!({ "object": "list", "data": [{ "id": "default" }] }).to_string())
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(media));
    Ok(response)
}
