//! A gRPC server that passes every call on and remembers what went through: headers decoded, bodies as they are.
//! On demand it refuses instead, with a message of its own.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::{Arc, Mutex};

type Passed = http_body_util::combinators::BoxBody<Bytes, hyper::Error>;

#[derive(Default)]
struct Seen {
    headers: Vec<u8>,
    bodies: Vec<u8>,
    baggage: Vec<String>,
    refuse: Option<String>,
}

#[derive(Clone)]
pub struct Relay {
    pub address: String,
    seen: Arc<Mutex<Seen>>,
}

impl Relay {
    /// Listens on a port of its own before `to`, as in `http://127.0.0.1:9002`.
    pub async fn start(to: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self { address: format!("http://{}", listener.local_addr().unwrap()), seen: Arc::default() };
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Passed>();
        let (to, seen) = (to.to_owned(), relay.seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (client, to, seen) = (client.clone(), to.clone(), seen.clone());
                let service =
                    hyper::service::service_fn(move |request| pass(client.clone(), to.clone(), seen.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        relay
    }

    /// From now on every call fails as an origin would that quotes what it was sent; with none they pass again.
    pub fn refuse(&self, message: Option<&str>) {
        self.seen.lock().unwrap().refuse = message.map(str::to_owned);
    }

    pub fn headers(&self) -> Vec<u8> {
        self.seen.lock().unwrap().headers.clone()
    }

    pub fn bodies(&self) -> Vec<u8> {
        self.seen.lock().unwrap().bodies.clone()
    }

    pub fn baggage(&self) -> Vec<String> {
        self.seen.lock().unwrap().baggage.clone()
    }
}

async fn pass(
    client: Client<HttpConnector, Passed>,
    to: String,
    seen: Arc<Mutex<Seen>>,
    request: Request<Incoming>,
) -> Result<Response<Either<Passed, Empty<Bytes>>>, hyper_util::client::legacy::Error> {
    let (mut head, body) = request.into_parts();
    note(&seen, &head.headers);
    if let Some(message) = seen.lock().unwrap().refuse.clone() {
        let refusal = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "13")
            .header("grpc-message", message);
        return Ok(refusal.body(Either::Right(Empty::new())).unwrap());
    }
    let path = head.uri.path_and_query().unwrap().as_str().to_owned();
    head.uri = format!("{to}{path}").parse::<Uri>().unwrap();
    let answer = client.request(Request::from_parts(head, watched(body, &seen))).await?;
    let (head, body) = answer.into_parts();
    note(&seen, &head.headers);
    Ok(Response::from_parts(head, Either::Left(watched(body, &seen))))
}

fn note(seen: &Mutex<Seen>, headers: &HeaderMap) {
    let mut seen = seen.lock().unwrap();
    for (name, value) in headers {
        let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat();
        seen.headers.extend_from_slice(&line);
        if name == "baggage" {
            seen.baggage.push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
    }
}

fn watched(body: Incoming, seen: &Arc<Mutex<Seen>>) -> Passed {
    let seen = seen.clone();
    body.map_frame(move |frame: Frame<Bytes>| {
        if let Some(data) = frame.data_ref() {
            seen.lock().unwrap().bodies.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            note(&seen, trailers);
        }
        frame
    })
    .boxed()
}
