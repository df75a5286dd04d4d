//! A server that has its answers ready: our own stack without our own work, and the peer's upstream.

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;

#[derive(Debug, Args)]
pub(crate) struct ConstantArgs {
    /// An answer to give, headers and body, as it was captured from the wire
    #[arg(long)]
    answer: PathBuf,
}

/// What every request is answered with.
struct Answer {
    headers: hyper::HeaderMap,
    body: Bytes,
}

impl Answer {
    /// The date is the server's own business.
    fn parse(raw: &[u8]) -> anyhow::Result<Self> {
        let end = raw.windows(4).position(|w| w == b"\r\n\r\n").context("the answer has no end of headers")?;
        let head = std::str::from_utf8(&raw[..end]).context("the answer's headers are not text")?;
        let mut headers = hyper::HeaderMap::new();
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(':').context("a header of the answer has no colon")?;
            if !["date", "content-length"].contains(&name.to_ascii_lowercase().as_str()) {
                headers.insert(name.parse::<hyper::header::HeaderName>()?, value.trim().parse()?);
            }
        }
        Ok(Self { headers, body: Bytes::copy_from_slice(&raw[end + 4..]) })
    }
}

/// Prints its address and serves until it is ended.
pub(crate) fn run(args: &ConstantArgs) -> anyhow::Result<()> {
    let raw = std::fs::read(&args.answer).with_context(|| format!("read {}", args.answer.display()))?;
    let answer = Arc::new(Answer::parse(&raw)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", listener.local_addr()?)?;
        out.flush()?;
        drop(out);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let service = service_fn(move |request| respond(Arc::clone(&answer), request));
                // A connection that breaks is the client's business.
                let _closed = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

async fn respond(answer: Arc<Answer>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    use http_body_util::BodyExt as _;
    let _body = request.into_body().collect().await;
    let mut response = Response::new(Full::new(answer.body.clone()));
    *response.headers_mut() = answer.headers.clone();
    Ok(response)
}
