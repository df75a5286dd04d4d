//! Questions to a real Prometheus: series, and the rules as it loaded them.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Prometheus {
    address: String,
    http: Client<HttpConnector, Empty<Bytes>>,
}

pub(crate) type Labels = BTreeMap<String, String>;

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// An alert's rule.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) query: String,
    /// `inactive`, `pending` or `firing`.
    pub(crate) state: String,
    /// Its `for:`, in seconds.
    pub(crate) duration: f64,
    pub(crate) labels: Labels,
    #[serde(default)]
    pub(crate) annotations: Labels,
}

impl Prometheus {
    pub(crate) fn new(address: String) -> Self {
        Self { address, http: Client::builder(TokioExecutor::new()).build_http() }
    }

    async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let asked = async {
            let response = loop {
                let request = Request::get(format!("{}{path}", self.address)).body(Empty::new());
                let response = self.http.request(request.context("name the query")?).await;
                let response = response.context("reach Prometheus")?;
                // It listens before it has read its own data.
                if response.status() != StatusCode::SERVICE_UNAVAILABLE {
                    break response;
                }
                tokio::time::sleep(PAUSE).await;
            };
            let body = response.into_body().collect().await.context("read Prometheus' answer")?.to_bytes();
            let answer: Value = serde_json::from_slice(&body).context("read Prometheus' answer")?;
            if answer["status"] != "success" {
                bail!("Prometheus refused {path}: {}", answer["error"]);
            }
            anyhow::Ok(answer)
        };
        tokio::time::timeout(TIMEOUT, asked).await.context("Prometheus did not answer")?
    }

    /// Series for which the expression has a value now.
    pub(crate) async fn query(&self, expression: &str) -> anyhow::Result<Vec<Sample>> {
        samples(&self.ask(&format!("/api/v1/query?query={}", encoded(expression))).await?)
    }

    /// The value of an expression that has one series at most.
    pub(crate) async fn value(&self, expression: &str) -> anyhow::Result<Option<f64>> {
        Ok(self.query(expression).await?.first().map(|sample| sample.value).filter(|value| value.is_finite()))
    }

    /// When, of the Unix seconds from `from` to `to`, the expression was first true of this series.
    pub(crate) async fn first(
        &self,
        expression: &str,
        labels: &Labels,
        [from, to]: [f64; 2],
    ) -> anyhow::Result<Option<f64>> {
        let path = format!("/api/v1/query_range?query={}&start={from}&end={to}&step=1", encoded(expression));
        let answer = self.ask(&path).await?;
        let series = answer["data"]["result"].as_array().context("read the series")?;
        let same =
            |one: &&Value| serde_json::from_value::<Labels>(one["metric"].clone()).is_ok_and(|found| found == *labels);
        Ok(series.iter().find(same).and_then(|one| one["values"][0][0].as_f64()))
    }

    /// Rules of an alert. One alert may have several, told apart by their labels.
    pub(crate) async fn rules(&self, alert: &str) -> anyhow::Result<Vec<Rule>> {
        let answer = self.ask("/api/v1/rules?type=alert").await?;
        let groups = answer["data"]["groups"].as_array().context("read the rules")?;
        let all = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let named = all.filter(|rule| rule["name"] == alert);
        named.map(|rule| serde_json::from_value(rule.clone()).context("read a rule")).collect()
    }
}

fn samples(answer: &Value) -> anyhow::Result<Vec<Sample>> {
    let data = &answer["data"];
    let number = |value: &Value| value[1].as_str().and_then(|text| text.parse().ok()).context("read a value");
    if data["resultType"] == "scalar" {
        return Ok(vec![Sample { labels: Labels::new(), value: number(&data["result"])? }]);
    }
    let series = data["result"].as_array().context("read the series")?;
    let sample = |one: &Value| {
        let labels = serde_json::from_value(one["metric"].clone()).context("read the labels")?;
        Ok(Sample { labels, value: number(&one["value"])? })
    };
    series.iter().map(sample).collect()
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte => {
                let _infallible = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_series_with_values() {
        let answer = json!({"data": {"resultType": "vector", "result": [
            {"metric": {"job": "edge"}, "value": [1.0, "0.5"]},
            {"metric": {}, "value": [1.0, "NaN"]},
        ]}});
        let samples = samples(&answer).unwrap();
        assert_eq!((samples[0].label("job"), samples[0].value), ("edge", 0.5));
        assert!(samples[1].value.is_nan() && samples[1].label("job").is_empty());
        assert!(super::samples(&json!({"data": {"result": [{"metric": {}}]}})).is_err());
        assert_eq!(encoded("a{b=\"c d\"}"), "a%7Bb%3D%22c%20d%22%7D");
    }
}
