//! What the visitors were told, counted over all of them.

use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(crate) struct Tally {
    /// Begins every event id of the run.
    run: String,
    pub(crate) seed: u64,
    visitors: AtomicU64,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    rejected: AtomicU64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let set = |key| std::env::var(key).ok().filter(|value| !value.is_empty());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Self {
            run: set("RUN").unwrap_or_else(|| format!("goose-{now}")),
            seed: set("SEED").and_then(|seed| seed.parse().ok()).unwrap_or(1),
            visitors: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        }
    }

    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// A number of one's own.
    pub(crate) fn next_visitor(&self) -> u64 {
        self.visitors.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn sent(&self, events: usize) {
        self.sent.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, accepted: u64, rejected: usize) {
        self.acknowledged.fetch_add(accepted, Ordering::Relaxed);
        self.rejected.fetch_add(rejected as u64, Ordering::Relaxed);
    }

    pub(crate) fn line(&self, requests: usize, failed: usize) -> String {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({
            "run": self.run,
            "requests": requests,
            "failed": failed,
            "events_sent": of(&self.sent),
            "events_acknowledged": of(&self.acknowledged),
            "events_rejected": of(&self.rejected),
        })
        .to_string()
    }

    pub(crate) fn failures(&self, requests: usize, failed: usize, errors: f64) -> Vec<String> {
        let mut failures = Vec::new();
        if requests == 0 {
            failures.push("no request was sent".to_owned());
        }
        if failed as f64 > requests as f64 * errors {
            failures.push(format!("{failed} of {requests} requests failed"));
        }
        let rejected = self.rejected.load(Ordering::Relaxed);
        if rejected > 0 {
            failures.push(format!("{rejected} events were rejected"));
        }
        if self.acknowledged.load(Ordering::Relaxed) == 0 {
            failures.push("no event was acknowledged".to_owned());
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let tally = Tally::new();
        assert_eq!(tally.failures(0, 0, 0.01).len(), 2, "nothing was done at all");
        tally.answered(5, 0);
        assert_eq!(tally.failures(100, 1, 0.01), Vec::<String>::new());
        assert_eq!(tally.failures(100, 2, 0.01), ["2 of 100 requests failed"]);
        tally.answered(1, 1);
        assert_eq!(tally.failures(100, 0, 0.01), ["1 events were rejected"]);
    }
}
