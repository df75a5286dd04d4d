//! What a running platform tells tools of its own machine: the edge's `GET /v1/about`.

use anyhow::Context as _;
use attune_runtime::{Exit, OrExit as _};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::path::PathBuf;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, serde::Deserialize)]
pub(crate) struct About {
    pub(crate) origin: String,
    pub(crate) bundle: PathBuf,
    /// The edge's file of kept traces; those of other processes lie beside it.
    pub(crate) traces: Option<PathBuf>,
    pub(crate) sample_normal: f64,
    pub(crate) sample_edge_only: f64,
}

impl About {
    pub(crate) async fn ask(edge: &str) -> anyhow::Result<Self> {
        let url = format!("{}/v1/about", edge.trim_end_matches('/'));
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let request = Request::get(&url).body(Empty::new());
        let request = request.with_context(|| format!("{edge} is not a URL")).or_exit(Exit::Usage)?;
        let asked = async {
            let response = client.request(request).await.with_context(|| format!("reach the platform at {edge}"))?;
            anyhow::ensure!(response.status().is_success(), "{url} answered {}", response.status());
            let body = response.into_body().collect().await.context("read the answer")?.to_bytes();
            serde_json::from_slice::<Self>(&body).context("read the answer")
        };
        tokio::time::timeout(TIMEOUT, asked)
            .await
            .map_err(|_| anyhow::anyhow!("{edge} did not answer"))
            .and_then(|about| about)
            .or_exit(Exit::TryLater)
    }
}
