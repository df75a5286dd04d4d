//! Single visitors who act and ask again until an answer shows it.

use crate::connection::Connection;
use serde_json::Value;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const EVERY: Duration = Duration::from_millis(100);
const ASK_AGAIN: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(30);

/// From before an event was sent until an answer showed it, in order of time.
#[derive(Debug, Default)]
pub(crate) struct Probed {
    /// At the edge that was told.
    pub(crate) own: Vec<Duration>,
    /// At another edge, which held the visitor's state already.
    pub(crate) other: Vec<Duration>,
    /// Shown nowhere within the patience.
    pub(crate) unseen: usize,
}

pub(crate) async fn run(edge: String, second: String, time: Duration, round: usize) -> Probed {
    let begun = Instant::now();
    let mut probing = Vec::new();
    let mut turns = tokio::time::interval(EVERY);
    while begun.elapsed() < time {
        turns.tick().await;
        let user = format!("probe-{round}-{}", probing.len());
        probing.push(tokio::spawn(one(edge.clone(), second.clone(), user)));
    }
    let mut probed = Probed::default();
    for task in probing {
        match task.await.unwrap() {
            Some((Some(own), Some(other))) => {
                probed.own.push(own);
                probed.other.push(other);
            }
            Some(_) => probed.unseen += 1,
            None => {}
        }
    }
    probed.own.sort_unstable();
    probed.other.sort_unstable();
    probed
}

/// None for a visitor of the holdout, whose answers reflect nothing.
async fn one(edge: String, second: String, user: String) -> Option<(Option<Duration>, Option<Duration>)> {
    let (mut told, mut other) = (Connection::open(&edge).await, Connection::open(&second).await);
    let page = format!(r#"{{"user_id":"{user}","limit":5}}"#);
    // Both hold the visitor's state from here on.
    page_of(&mut other, &page).await;
    let first = page_of(&mut told, &page).await;
    if first["source"] == "baseline" {
        return None;
    }
    let item = first["items"][0]["item_id"].as_str().unwrap();
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap();
    let event = format!(
        r#"{{"events":[{{"event_id":"e","type":"click","user_id":"{user}","item_id":"{item}","occurred_at":"{now}"}}]}}"#
    );
    let begun = Instant::now();
    if told.post("/v1/feedback", &event).await.status != 202 {
        return Some((None, None));
    }
    Some(tokio::join!(shown(&mut told, &page, begun), shown(&mut other, &page, begun)))
}

async fn shown(connection: &mut Connection, page: &str, begun: Instant) -> Option<Duration> {
    loop {
        if !page_of(connection, page).await["watermark"].is_null() {
            return Some(begun.elapsed());
        }
        if begun.elapsed() > PATIENCE {
            return None;
        }
        // Who waits long asks less often, or the asking would be the load.
        tokio::time::sleep(ASK_AGAIN.max(begun.elapsed() / 20)).await;
    }
}

async fn page_of(connection: &mut Connection, page: &str) -> Value {
    let answer = connection.post("/v1/personalize", page).await;
    assert_eq!(answer.status, 200);
    serde_json::from_slice(&answer.body).unwrap()
}
