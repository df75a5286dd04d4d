//! A visitor's view under faults: pages at a constant rate, none of which may fail or be late.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

use crate::platform::Site;
use serde_json::json;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// No page may take longer, whatever has happened.
const PATIENCE: Duration = Duration::from_secs(2);
const PAGES_PER_SECOND: u32 = 40;

#[derive(Debug, Default)]
pub struct Pages {
    stop: AtomicBool,
    served: AtomicU64,
    degraded: AtomicU64,
}

impl Pages {
    /// Until [`Self::end`]; what was not a page, or late, is told.
    pub async fn ask(self: Arc<Self>, edge: Site) -> Vec<String> {
        let mut failures = Vec::new();
        let mut every = tokio::time::interval(Duration::from_secs(1) / PAGES_PER_SECOND);
        for turn in 0u64.. {
            every.tick().await;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let user = if turn % 3 == 0 { format!("newcomer {turn}") } else { format!("u{}", turn % 20) };
            let began = Instant::now();
            match edge.try_post("/v1/personalize", &json!({"user_id": user, "limit": 10})).await {
                Ok(answer) if answer.status == 200 && began.elapsed() < PATIENCE => {
                    self.served.fetch_add(1, Ordering::Relaxed);
                    self.degraded.fetch_add(u64::from(answer.json()["level"] != 0), Ordering::Relaxed);
                }
                Ok(answer) => {
                    failures.push(format!("{} after {:?}: {}", answer.status, began.elapsed(), answer.text()))
                }
                Err(error) => failures.push(error),
            }
        }
        failures
    }

    pub async fn end(&self, asking: JoinHandle<Vec<String>>) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        asking.await.unwrap()
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [served, degraded] = [&self.served, &self.degraded].map(|count| count.load(Ordering::Relaxed));
        write!(f, "{served} pages, {degraded} of them degraded")
    }
}
