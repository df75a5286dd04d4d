//! A real HTTP server that speaks the chat completions protocol, well or badly, as a test scripts it.

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::sync::{Notify, mpsc};

/// What the server does, in order, after it has read a request.
#[derive(Clone)]
pub(crate) enum Act {
    Status(u16),
    MediaType(&'static str),
    Send(Vec<u8>),
    /// Until the test says go on.
    Await(Arc<Notify>),
    /// For ever, until the client leaves.
    Hang,
    /// Breaks the connection in the middle of the body.
    Abort,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) peak: AtomicUsize,
    /// Bodies whose client left before their end.
    pub(crate) left: AtomicUsize,
    pub(crate) changed: Notify,
    pub(crate) last: parking_lot::Mutex<Option<(http::HeaderMap, String, serde_json::Value)>>,
}

impl Seen {
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("the server sees it in time");
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

type Script = Arc<dyn Fn(usize) -> Vec<Act> + Send + Sync>;
type Frames = mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>;

impl Server {
    /// `script` gives the acts for the n-th request, from 0.
    pub(crate) async fn start(script: impl Fn(usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (script, shared): (Script, _) = (Arc::new(script), seen.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (script, seen) = (script.clone(), shared.clone());
                let service = service_fn(move |request| answer(request, script.clone(), seen.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service),
                );
            }
        });
        Self { address, seen }
    }

    pub(crate) async fn always(acts: Vec<Act>) -> Self {
        Self::start(move |_| acts.clone()).await
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Script,
    seen: Arc<Seen>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = std::io::Error>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let json = serde_json::from_slice(&body).unwrap_or_default();
    *seen.last.lock() = Some((head.headers, head.uri.path().to_owned(), json));
    let n = seen.requests.fetch_add(1, SeqCst);
    let running = seen.running.fetch_add(1, SeqCst) + 1;
    seen.peak.fetch_max(running, SeqCst);
    seen.changed.notify_waiters();

    let mut acts = script(n).into_iter().peekable();
    let mut response = Response::builder().status(200);
    let mut media = "text/event-stream";
    while let Some(act) = acts.next_if(|a| matches!(a, Act::Status(_) | Act::MediaType(_))) {
        match act {
            Act::Status(status) => response = response.status(status),
            Act::MediaType(kind) => media = kind,
            _ => {}
        }
    }
    let (frames, body) = mpsc::channel(1);
    tokio::spawn(async move {
        if !play(acts, &frames).await {
            seen.left.fetch_add(1, SeqCst);
        }
        seen.running.fetch_sub(1, SeqCst);
        seen.changed.notify_waiters();
    });
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(body).boxed());
    Ok(response.header("content-type", media).body(body).unwrap())
}

/// False when the client left.
async fn play(acts: impl Iterator<Item = Act>, frames: &Frames) -> bool {
    for act in acts {
        let here = match act {
            Act::Status(_) | Act::MediaType(_) => true,
            Act::Send(bytes) => frames.send(Ok(Frame::data(bytes.into()))).await.is_ok(),
            Act::Await(notify) => tokio::select! {
                () = notify.notified() => true,
                () = frames.closed() => false,
            },
            Act::Hang => {
                frames.closed().await;
                false
            }
            Act::Abort => frames.send(Err(std::io::Error::other("scripted"))).await.is_ok(),
        };
        if !here {
            return false;
        }
    }
    true
}

pub(crate) fn text(content: &str) -> Act {
    event(&serde_json::json!({ "choices": [{ "index": 0, "delta": { "content": content }, "finish_reason": null }] }))
}

pub(crate) fn finish(reason: &str) -> Act {
    event(&serde_json::json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }))
}

pub(crate) fn usage(input: u32, output: u32) -> Act {
    let usage = serde_json::json!({ "prompt_tokens": input, "completion_tokens": output });
    event(&serde_json::json!({ "choices": [], "usage": usage }))
}

pub(crate) fn done() -> Act {
    raw("data: [DONE]\n\n")
}

pub(crate) fn event(json: &serde_json::Value) -> Act {
    raw(&format!("data: {json}\n\n"))
}

pub(crate) fn raw(text: &str) -> Act {
    Act::Send(text.as_bytes().to_vec())
}

/// A good answer with these contents.
pub(crate) fn good(pieces: &[&str]) -> Vec<Act> {
    let mut acts = vec![raw(": hello\n\n"), text("")];
    acts.extend(pieces.iter().map(|p| text(p)));
    acts.extend([finish("stop"), usage(100, 20), done()]);
    acts
}
