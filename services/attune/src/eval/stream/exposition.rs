//! What `/metrics` says, as series with values.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::collections::BTreeMap;

/// Values by `name{labels}`, as the text has it.
pub(super) struct Exposition(BTreeMap<String, f64>);

impl Exposition {
    pub(super) async fn get(admin: &str) -> anyhow::Result<Self> {
        let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let uri = format!("{admin}/metrics").parse().context("name the metrics")?;
        let response = client.get(uri).await.context("ask for the metrics")?;
        let body = response.into_body().collect().await.context("read the metrics")?.to_bytes();
        Ok(Self::parse(&String::from_utf8_lossy(&body)))
    }

    /// The text format 0.0.4 of Prometheus, without times.
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(lines.filter_map(series).collect())
    }

    /// None where the series is absent.
    pub(super) fn value(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// Of all series of a name.
    pub(super) fn sum(&self, name: &str) -> f64 {
        let of = |series: &str| series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        self.0.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_their_values() {
        let text = "# HELP a b\na{x=\"1 2\"} 3\na{x=\"y\"} 4.5\nab 7\nb NaN\n";
        let exposition = Exposition::parse(text);
        assert_eq!(exposition.value("a{x=\"1 2\"}"), Some(3.0));
        assert_eq!(exposition.sum("a"), 7.5);
        assert!(exposition.value("b").unwrap().is_nan());
        assert_eq!(exposition.value("c"), None);
    }
}
