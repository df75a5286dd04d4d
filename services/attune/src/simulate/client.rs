//! A visitors' client: keep-alive HTTP/1.1, one deadline per request, answers read up to a limit.

use super::wire::{Answer, Ask, Batch, Receipt};
use attune_domain::UserAttributes;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::Duration;

const VERSION_HEADER: &str = "x-attune-version";
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Idle connections kept. More visitors than this share them.
const MAX_IDLE: usize = 256;

/// Why a request gave nothing, by what a visitor can see. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no connection")]
    Connect,
    #[error("timeout")]
    Timeout,
    /// 429 or 503, with what `Retry-After` asks for.
    #[error("shed")]
    Shed(Option<Duration>),
    /// Another 4xx.
    #[error("refused")]
    Refused(u16),
    /// Another status.
    #[error("server error")]
    Server(u16),
    #[error("malformed answer")]
    Malformed,
}

impl Failure {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Shed(_) => "shed",
            Self::Refused(_) => "refused",
            Self::Server(_) => "server",
            Self::Malformed => "malformed",
        }
    }

    /// Whether the same request may fare better later.
    pub(crate) fn may_retry(self) -> bool {
        match self {
            Self::Connect | Self::Timeout | Self::Shed(_) | Self::Server(_) => true,
            Self::Refused(_) | Self::Malformed => false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the edge's address {address:?} is not of the form http://HOST:PORT")]
pub(crate) struct BadAddress {
    address: String,
}

pub(crate) struct EdgeClient {
    http: Client<HttpConnector, Full<Bytes>>,
    personalize: Uri,
    feedback: Uri,
    address: String,
    timeout: Duration,
}

impl EdgeClient {
    pub(crate) fn new(address: &str, timeout: Duration) -> Result<Self, BadAddress> {
        let bad = || BadAddress { address: address.to_owned() };
        let base: Uri = address.parse().map_err(|_| bad())?;
        let plain = base.path() == "/" && base.query().is_none();
        if base.scheme_str() != Some("http") || base.host().is_none_or(str::is_empty) || !plain {
            return Err(bad());
        }
        let authority = base.authority().ok_or_else(bad)?.as_str();
        let at = |path: &str| format!("http://{authority}{path}").parse::<Uri>().map_err(|_| bad());
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        Ok(Self {
            http,
            personalize: at("/v1/personalize")?,
            feedback: at("/v1/feedback")?,
            address: format!("http://{authority}"),
            timeout,
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether anybody answers at all; a refusal is an answer.
    pub(crate) async fn probe(&self) -> Result<(), Failure> {
        let uri = format!("{}?limit=1", self.personalize).parse().map_err(|_| Failure::Malformed)?;
        let sent = self.exchange(Method::GET, uri, None, Bytes::new()).await;
        match sent {
            Err(failure @ (Failure::Connect | Failure::Timeout)) => Err(failure),
            _ => Ok(()),
        }
    }

    /// The answer, and the newest state version that it tells of.
    pub(crate) async fn personalize(&self, ask: &Ask<'_>, version: u64) -> Result<(Answer, u64), Failure> {
        let body = Bytes::from(serde_json::to_vec(ask).map_err(|_| Failure::Malformed)?);
        let (headers, bytes) = self.exchange(Method::POST, self.personalize.clone(), Some(version), body).await?;
        Ok((parse(&bytes)?, version.max(headers)))
    }

    pub(crate) async fn feedback(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let body = Bytes::from(serde_json::to_vec(batch).map_err(|_| Failure::Malformed)?);
        let (_, bytes) = self.exchange(Method::POST, self.feedback.clone(), None, body).await?;
        parse(&bytes)
    }

    /// States a visitor's attributes; the client's address is the operators' one then.
    pub(crate) async fn state_user(&self, user_id: &str, attributes: &UserAttributes) -> Result<(), Failure> {
        let stated: BTreeMap<&str, &str> = attributes.0.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.put(&format!("/v1/users/{user_id}"), &serde_json::json!({ "attributes": stated })).await
    }

    pub(crate) async fn put(&self, path: &str, document: &serde_json::Value) -> Result<(), Failure> {
        let uri = format!("{}{path}", self.address).parse().map_err(|_| Failure::Malformed)?;
        self.exchange(Method::PUT, uri, None, document.to_string().into()).await.map(drop)
    }

    /// The version header (0 without one) and the body of a successful answer.
    async fn exchange(
        &self,
        method: Method,
        uri: Uri,
        version: Option<u64>,
        body: Bytes,
    ) -> Result<(u64, Bytes), Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(version) = version.filter(|&v| v > 0) {
            headers.insert(VERSION_HEADER, HeaderValue::from(version));
        }
        let whole = async {
            let response = self.http.request(request).await.map_err(|_| Failure::Connect)?;
            let failure = failure_of(&response);
            let version = header_number(&response, VERSION_HEADER).unwrap_or(0);
            // Read to the end even if it is a failure, so that the connection can be used again.
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            match (failure, body) {
                (Some(failure), _) => Err(failure),
                (None, Ok(body)) => Ok((version, body.to_bytes())),
                (None, Err(_)) => Err(Failure::Malformed),
            }
        };
        tokio::time::timeout(self.timeout, whole).await.unwrap_or(Err(Failure::Timeout))
    }
}

fn failure_of(response: &Response<Incoming>) -> Option<Failure> {
    let status = response.status();
    match status {
        _ if status.is_success() => None,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Some(Failure::Shed(header_number(response, header::RETRY_AFTER.as_str()).map(Duration::from_secs)))
        }
        _ if status.is_client_error() => Some(Failure::Refused(status.as_u16())),
        _ => Some(Failure::Server(status.as_u16())),
    }
}

fn header_number(response: &Response<Incoming>, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.trim().parse().ok()
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|_| Failure::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_are_taken() {
        for good in ["http://127.0.0.1:8080", "http://edge:80/", "http://[::1]:8080"] {
            assert!(EdgeClient::new(good, Duration::from_secs(1)).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:8080", "https://edge", "http://", "http://edge/v1", "http://edge/?x=1", "http://a b"]
        {
            assert!(EdgeClient::new(bad, Duration::from_secs(1)).is_err(), "{bad}");
        }
    }
}
