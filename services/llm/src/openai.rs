//! A client of servers that speak the chat completions protocol: vLLM, Ollama, llama.cpp, hosted ones.
//!
//! Always holds: neither the key nor any text of prompt or answer is logged, traced or put into an error. One call is
//! one request, never retried; dropping the stream closes its connection, on which the server stops generating.

use crate::budget::Tokens;
use crate::generate::{Ended, Finish, GenerateError, Generated, Generator};
use crate::prompt::Prompt;
use crate::sse::SseParser;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, ResponseFuture, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::collections::VecDeque;
use std::time::Duration;

mod wire;

use wire::{Chunk, Step, Whole};

/// An explanation is a few hundred bytes; a server that sends more than this is not explaining.
const MAX_ANSWER_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    #[error("{0}")]
    BaseUrl(&'static str),
    #[error("the api key is not a header value")]
    ApiKey,
    #[error("cannot read the system's root certificates")]
    Roots(#[source] std::io::Error),
}

/// Name of the field that bounds the answer; newer hosted models refuse the older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimitField {
    MaxTokens,
    MaxCompletionTokens,
}

pub struct OpenAiOptions {
    /// Up to and including the version, without a slash at the end: `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    pub model: String,
    pub api_key: Option<String>,
    pub max_output_tokens: u32,
    pub temperature: Option<f64>,
    pub token_limit_field: TokenLimitField,
    pub connect_timeout: Duration,
}

enum Http {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

pub struct OpenAi {
    http: Http,
    uri: Uri,
    authorization: Option<HeaderValue>,
    model: String,
    max_output_tokens: u32,
    temperature: Option<f64>,
    token_limit_field: TokenLimitField,
}

impl OpenAi {
    pub fn new(options: OpenAiOptions) -> Result<Self, OpenAiError> {
        let uri = completions_uri(&options.base_url)?;
        let authorization = options
            .api_key
            .map(|key| {
                let mut value =
                    HeaderValue::try_from(format!("Bearer {}", key.trim())).map_err(|_| OpenAiError::ApiKey)?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(options.connect_timeout));
        connector.enforce_http(false);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(60));
        let http = if uri.scheme() == Some(&http::uri::Scheme::HTTPS) {
            let tls = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
                .map_err(OpenAiError::Roots)?
                .https_only()
                .enable_http1()
                .wrap_connector(connector);
            Http::Tls(client.build(tls))
        } else {
            Http::Plain(client.build(connector))
        };
        Ok(Self {
            http,
            uri,
            authorization,
            model: options.model,
            max_output_tokens: options.max_output_tokens,
            temperature: options.temperature,
            token_limit_field: options.token_limit_field,
        })
    }

    fn send(&self, prompt: &Prompt) -> ResponseFuture {
        let body = wire::request(&self.model, prompt, self.max_output_tokens, self.token_limit_field, self.temperature);
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        match &self.http {
            Http::Plain(client) => client.request(request),
            Http::Tls(client) => client.request(request),
        }
    }
}

impl Generator for OpenAi {
    fn model(&self) -> &str {
        &self.model
    }

    fn max_output_tokens(&self) -> u32 {
        self.max_output_tokens
    }

    fn generate(&self, prompt: &Prompt) -> BoxStream<'static, Result<Generated, GenerateError>> {
        let sent = self.send(prompt);
        stream::once(open(sent))
            .flat_map(|opened| match opened {
                Ok(answer) => stream::try_unfold(answer, Answer::next).left_stream(),
                Err(error) => stream::iter([Err(error)]).right_stream(),
            })
            .boxed()
    }
}

/// `base_url` with the method's path, if it is one that can be called.
pub fn completions_uri(base_url: &str) -> Result<Uri, OpenAiError> {
    let bad = OpenAiError::BaseUrl;
    let uri: Uri = base_url.parse().map_err(|_| bad("is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("must begin with http:// or https://"));
    }
    if uri.authority().is_none_or(|a| a.host().is_empty() || a.as_str().contains('@')) {
        return Err(bad("must name a host, and no user"));
    }
    if uri.query().is_some() {
        return Err(bad("must not have a query"));
    }
    format!("{}/chat/completions", base_url.trim_end_matches('/')).parse().map_err(|_| bad("is not a URL"))
}

async fn open(sent: ResponseFuture) -> Result<Answer, GenerateError> {
    let response = sent.await.map_err(|e| match e.is_connect() {
        true => GenerateError::Unreachable,
        false => GenerateError::CutOff,
    })?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS => return Err(GenerateError::RateLimited),
        status => return Err(GenerateError::Status(status.as_u16())),
    }
    let media = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/json" => whole(response).await,
        "text/event-stream" | "" => Ok(Answer::streamed(response.into_body())),
        _ => Err(GenerateError::Malformed("media type")),
    }
}

/// A server that does not stream answers at once.
async fn whole(response: Response<Incoming>) -> Result<Answer, GenerateError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let bytes = body.map_err(|_| GenerateError::CutOff)?.to_bytes();
    let whole: Whole = serde_json::from_slice(&bytes).map_err(|_| GenerateError::Malformed("json"))?;
    Ok(Answer { ready: whole.steps()?.into(), ..Answer::default() })
}

#[derive(Default)]
struct Answer {
    /// None once everything was read.
    body: Option<Incoming>,
    received: usize,
    parser: SseParser,
    ready: VecDeque<Generated>,
    finish: Option<Finish>,
    usage: Option<Tokens>,
}

impl Answer {
    fn streamed(body: Incoming) -> Self {
        Self { body: Some(body), ..Self::default() }
    }

    async fn next(mut self) -> Result<Option<(Generated, Self)>, GenerateError> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Ok(Some((step, self)));
            }
            let Some(body) = &mut self.body else { return Ok(None) };
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read(&data)?;
                    }
                }
                Some(Err(_)) => return Err(GenerateError::CutOff),
                // Some servers close without the last word.
                None => self.end()?,
            }
        }
    }

    fn read(&mut self, data: &[u8]) -> Result<(), GenerateError> {
        self.received += data.len();
        if self.received > MAX_ANSWER_BYTES {
            return Err(GenerateError::Malformed("length"));
        }
        let mut events = Vec::new();
        self.parser.push(data, &mut events).map_err(|_| GenerateError::Malformed("event stream"))?;
        for event in events {
            if event.trim() == "[DONE]" {
                return self.end();
            }
            let chunk: Chunk = serde_json::from_str(&event).map_err(|_| GenerateError::Malformed("json"))?;
            let Step { text, finish, usage } = chunk.step()?;
            self.finish = finish.or(self.finish);
            self.usage = usage.or(self.usage);
            self.ready.extend(text.map(Generated::Text));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), GenerateError> {
        let body = self.body.take();
        let finish = self.finish.ok_or(GenerateError::CutOff)?;
        self.ready.push_back(Generated::End(Ended { finish, usage: self.usage }));
        // Reading the end that is already here lets the connection serve the next call.
        if let Some(mut body) = body {
            let _ = body.frame().now_or_never();
        }
        Ok(())
    }
}
