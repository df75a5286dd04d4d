//! The language model's server is gone: explanations come from the template, and no request fails.

use super::model_server::ModelServer;
use super::stage::{Stage, Verdict, require};
use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

const HEALTHY: Duration = Duration::from_secs(15);
/// The rule looks back for two minutes.
const PATIENCE: Duration = Duration::from_secs(160);
/// Between two visitors who ask why.
const GAP: Duration = Duration::from_millis(400);

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<Verdict> {
    let mut server = ModelServer::start().await?;
    let base = format!("http://{}/v1", server.address);
    let settings = format!("[llm]\nbackend = \"openai\"\n[llm.openai]\nbase_url = \"{base}\"\n");
    stage.did(format!("a language model's server listens at {base}"));
    let platform = stage.platform("platform", &settings, &[]).await?;
    stage.watch(&platform, "local").await?;
    let asking = tokio::spawn(ask_why(platform.ready.edge.clone()));
    stage.did("visitors ask for pages that say why");
    tokio::time::sleep(HEALTHY).await;
    let answered = "sum(rate(llm_backend_calls_total{outcome=~\"ok|shortened|rejected\"}[20s])) > 0";
    let healthy = stage.signal("explanations by the model, a second", answered, Duration::from_secs(60)).await?;
    let alert = stage.alert("LLMUnavailable", &[], 1).await?;
    require(healthy && !stage.is_true(&alert).await?, "the platform is not well before the failure")?;

    server.stop().await;
    stage.breaks("the language model's server is gone");
    let failing = "sum(rate(llm_errors_total[20s])) > 0";
    stage.signal("explanations without the model, a second", failing, PATIENCE).await?;
    stage.signal("the model is left alone", "max(llm_circuit_open) == 1", PATIENCE).await?;
    let fired = stage.fires(&alert, PATIENCE, |_| true).await?;

    // The runbook's diagnosis, in its order.
    let up = stage.value("max(up{job=~\"llm|attune\"})").await?.unwrap_or(0.0) > 0.0;
    let series = stage.query("sum by (reason) (increase(llm_fallbacks_total[1m])) > 0").await?;
    let reasons: Vec<(String, f64)> =
        series.into_iter().map(|sample| (sample.label("reason").to_owned(), sample.value)).collect();
    let takes_connections = takes_connections(server.address).await;
    let said: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} {count:.0}")).collect();
    stage.evidence(format!("answers by the template in the last minute, by reason: {}", said.join(", ")));
    stage.evidence(format!(
        "the llm process is {}; {base} {} connections",
        if up { "up" } else { "away" },
        if takes_connections { "takes" } else { "refuses" }
    ));
    let found = conclude(up, &reasons, takes_connections);

    server.restart().await?;
    stage.did("the server listens again");
    let recovers = stage.signal("explanations by the model again, a second", answered, Duration::from_secs(60)).await?;
    asking.abort();
    platform.stop().await?;
    Ok(Verdict {
        is_right: found == Some(Culprit::Unreachable) && fired && recovers,
        cause: found.map(|found| match found {
            Culprit::NoProcess => "no llm process is up".to_owned(),
            Culprit::Unreachable => format!("nobody listens at the language model's address {base}"),
            Culprit::Backend(why) => format!("the language model's server answers, but: {why}"),
        }),
        truth: format!("the server at {base} was ended"),
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Culprit {
    NoProcess,
    Unreachable,
    Backend(String),
}

/// A circuit that is open says that something failed, not what.
fn conclude(up: bool, reasons: &[(String, f64)], takes_connections: bool) -> Option<Culprit> {
    if !up {
        return Some(Culprit::NoProcess);
    }
    let own = ["circuit_open", "no_factors", "no_time", "budget", "ungrounded"];
    let (reason, _) =
        reasons.iter().filter(|(reason, _)| !own.contains(&reason.as_str())).max_by(|a, b| a.1.total_cmp(&b.1))?;
    match (reason.as_str(), takes_connections) {
        ("unreachable", false) => Some(Culprit::Unreachable),
        // It says one thing and the address another.
        ("unreachable", true) => None,
        _ => Some(Culprit::Backend(reason.clone())),
    }
}

async fn takes_connections(address: SocketAddr) -> bool {
    let connected = tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(address)).await;
    matches!(connected, Ok(Ok(_)))
}

/// Asks for a page with its reasons, for ever another visitor.
async fn ask_why(edge: String) {
    let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    for visitor in 0u32.. {
        // What one request meets, the alert tells.
        let _failed = page(&http, &edge, visitor).await;
        tokio::time::sleep(GAP).await;
    }
}

async fn page(http: &Client<HttpConnector, Full<Bytes>>, edge: &str, visitor: u32) -> anyhow::Result<()> {
    let body = serde_json::json!({ "user_id": format!("visitor-{}", visitor % 1500), "limit": 3, "explain": true });
    let request = Request::post(format!("{edge}/v1/personalize"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .context("ask")?;
    let response = tokio::time::timeout(Duration::from_secs(12), http.request(request)).await??;
    response.into_body().collect().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_and_the_address_have_to_agree() {
        let reasons = |of: &[(&str, f64)]| of.iter().map(|(r, n)| ((*r).to_owned(), *n)).collect::<Vec<_>>();
        let down = reasons(&[("circuit_open", 90.0), ("unreachable", 5.0)]);
        assert_eq!(conclude(true, &down, false), Some(Culprit::Unreachable));
        assert_eq!(conclude(true, &down, true), None);
        assert_eq!(conclude(false, &down, false), Some(Culprit::NoProcess));
        let slow = reasons(&[("timeout", 5.0), ("unreachable", 1.0)]);
        assert_eq!(conclude(true, &slow, true), Some(Culprit::Backend("timeout".into())));
        assert_eq!(conclude(true, &reasons(&[("circuit_open", 9.0)]), false), None);
    }

    #[tokio::test]
    async fn the_server_goes_and_comes_back_at_its_address() {
        let mut server = ModelServer::start().await.unwrap();
        let address = server.address;
        assert!(takes_connections(address).await);
        server.stop().await;
        assert!(!takes_connections(address).await);
        server.restart().await.unwrap();
        assert!(takes_connections(address).await && server.address == address);
    }
}
