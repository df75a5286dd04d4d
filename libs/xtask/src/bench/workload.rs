//! What visitors ask of a server, and on how many connections.

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const HIT_CONNECTIONS: usize = 64;
pub(crate) const MISS_CONNECTIONS: usize = 16;
/// At a fixed rate there must always be a free connection.
pub(crate) const OPEN_CONNECTIONS: usize = 256;
/// Share of what a closed loop reached, for latency at a fixed rate.
pub(crate) const OPEN_SHARE: f64 = 0.6;
const LIMIT: u32 = 20;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Method {
    Post,
    Get,
}

pub(crate) fn page(method: Method, user: u32) -> String {
    match method {
        Method::Post => post(&format!(r#"{{"user_id":"{user}","limit":{LIMIT}}}"#)),
        Method::Get => format!("GET /v1/personalize?user_id={user}&limit={LIMIT} HTTP/1.1\r\nhost: bench\r\n\r\n"),
    }
}

/// Pages that only the origin can answer: every visitor beside every item of `answer`.
pub(crate) fn product_pages(visitors: u32, answer: &[u8]) -> anyhow::Result<Vec<String>> {
    let items = items_of(answer)?;
    let pairs = (1..=visitors).flat_map(|user| items.iter().map(move |item| (user, item)));
    Ok(pairs.map(|(user, item)| product_page(user, item)).collect())
}

fn product_page(user: u32, item: &str) -> String {
    let item = serde_json::Value::from(item);
    post(&format!(r#"{{"user_id":"{user}","limit":{LIMIT},"page_type":"product","item_id":{item}}}"#))
}

fn post(body: &str) -> String {
    format!(
        "POST /v1/personalize HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The body of an answer.
pub(crate) fn document(answer: &[u8]) -> anyhow::Result<serde_json::Value> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").context("an answer has no end of headers")?;
    serde_json::from_slice(&answer[end + 4..]).context("an answer is not JSON")
}

fn items_of(answer: &[u8]) -> anyhow::Result<BTreeSet<String>> {
    let document = document(answer)?;
    let items = document["items"].as_array().context("an answer has no items")?;
    let ids = items.iter().filter_map(|item| item["item_id"].as_str().map(str::to_owned)).collect::<BTreeSet<_>>();
    if ids.is_empty() {
        bail!("an answer has no items");
    }
    Ok(ids)
}

pub(crate) fn write(path: &Path, requests: &[String]) -> anyhow::Result<PathBuf> {
    fs::write(path, serde_json::to_vec(requests)?).with_context(|| format!("write {}", path.display()))?;
    Ok(path.to_owned())
}
