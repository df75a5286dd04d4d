//! Events at a fixed rate, of many visitors, some of them about what a page has just shown.

use crate::connection::Connection;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;

const CONNECTIONS: usize = 32;
const VISITORS: u64 = 20_000;
/// Pages asked for before the load, whose items and decisions the events are about.
const PAGES: u64 = 1_000;
const KINDS: [&str; 5] = ["click", "dwell", "like", "impression", "conversion"];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Feed {
    pub(crate) rate: f64,
    /// Events a request.
    pub(crate) batch: usize,
    pub(crate) time: Duration,
}

/// What a load came to. A request's time runs from when it was due.
#[derive(Debug, Default)]
pub(crate) struct Fed {
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) took: Duration,
    pub(crate) times: Vec<Duration>,
}

struct Page {
    request: String,
    user: String,
    items: Vec<String>,
}

impl Feed {
    pub(crate) async fn run(self, edge: &str, round: usize) -> Fed {
        let mut connection = Connection::open(edge).await;
        let mut pages = Vec::new();
        for n in 0..PAGES {
            let user = format!("v{}", n * VISITORS / PAGES);
            let body = format!(r#"{{"user_id":"{user}","limit":20}}"#);
            let page: Value = serde_json::from_slice(&connection.post("/v1/personalize", &body).await.body).unwrap();
            let items = page["items"].as_array().unwrap().iter();
            let items = items.map(|item| item["item_id"].as_str().unwrap().to_owned()).collect();
            pages.push(Page { request: page["request_id"].as_str().unwrap().to_owned(), user, items });
        }
        let (pages, next) = (Arc::new(pages), Arc::new(AtomicU64::new(0)));
        let total = Arc::new(Mutex::new(Fed::default()));
        let begun = Instant::now();
        let every = self.batch as f64 / self.rate;
        let batches = (self.time.as_secs_f64() / every) as u64;
        let sending: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (pages, next, total, edge) =
                    (Arc::clone(&pages), Arc::clone(&next), Arc::clone(&total), edge.to_owned());
                tokio::spawn(async move {
                    let mut connection = Connection::open(&edge).await;
                    let mut own = Fed::default();
                    loop {
                        let turn = next.fetch_add(1, Ordering::Relaxed);
                        if turn >= batches {
                            break;
                        }
                        let due = begun + Duration::from_secs_f64(turn as f64 * every);
                        tokio::time::sleep_until(due.into()).await;
                        let body = self.body(&pages, round, turn);
                        let answer = connection.post("/v1/feedback", &body).await;
                        own.times.push(due.elapsed());
                        match answer.status {
                            202 => {
                                let receipt: Value = serde_json::from_slice(&answer.body).unwrap();
                                assert_eq!(receipt["rejected"], serde_json::json!([]));
                                own.acknowledged += receipt["accepted"].as_u64().unwrap();
                            }
                            _ => own.refused += 1,
                        }
                    }
                    let mut total = total.lock().await;
                    total.acknowledged += own.acknowledged;
                    total.refused += own.refused;
                    total.times.append(&mut own.times);
                })
            })
            .collect();
        for task in sending {
            task.await.unwrap();
        }
        let mut fed = std::mem::take(&mut *total.lock().await);
        fed.took = begun.elapsed();
        fed.times.sort_unstable();
        fed
    }

    /// Every third event is about something on a page, by who saw it.
    fn body(&self, pages: &[Page], round: usize, turn: u64) -> String {
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap();
        let mut text = String::from(r#"{"events":["#);
        for n in 0..self.batch as u64 {
            let number = turn * self.batch as u64 + n;
            let random = mix(number ^ (round as u64) << 40);
            let page = &pages[(random % pages.len() as u64) as usize];
            let item = &page.items[(random >> 20) as usize % page.items.len()];
            let kind = KINDS[(random >> 40) as usize % KINDS.len()];
            let comma = if n == 0 { "" } else { "," };
            write!(text, r#"{comma}{{"event_id":"{round}-{number}","type":"{kind}","item_id":"{item}","#).unwrap();
            if number.is_multiple_of(3) {
                write!(text, r#""user_id":"{}","request_id":"{}","#, page.user, page.request).unwrap();
            } else {
                write!(text, r#""user_id":"v{}","#, (random >> 8) % VISITORS).unwrap();
            }
            write!(text, r#""occurred_at":"{now}"}}"#).unwrap();
        }
        text.push_str("]}");
        text
    }
}

/// SplitMix64's output.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}
