//! Holding back floods of one warning or error.

use super::events::EventSpec;
use super::{EVENTS, LogLevel};
use attune_domain::UnixMillis;
use parking_lot::Mutex;

const BURST: f64 = 50.0;
const PER_MS: f64 = 10.0 / 1000.0;

/// A token bucket per event for warnings and errors: bursts of 50, then 10 a second.
pub(super) struct RateLimit(Vec<Mutex<Bucket>>);

struct Bucket {
    tokens: f64,
    at: UnixMillis,
    suppressed: u64,
}

impl RateLimit {
    pub(super) fn new() -> Self {
        let full = |_: &&EventSpec| Mutex::new(Bucket { tokens: BURST, at: UnixMillis::MIN, suppressed: 0 });
        Self(EVENTS.iter().map(full).collect())
    }

    /// How many were held back since the last admitted one; None when this one is held back too.
    pub(super) fn admit(&self, event: &'static EventSpec, now: UnixMillis) -> Option<u64> {
        if event.level < LogLevel::Warn {
            return Some(0);
        }
        let at = EVENTS.iter().position(|one| one.name == event.name)?;
        let mut bucket = self.0[at].lock();
        let passed = now.saturating_sub(bucket.at).max(0);
        bucket.tokens = (bucket.tokens + passed as f64 * PER_MS).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            bucket.suppressed += 1;
            return None;
        }
        bucket.tokens -= 1.0;
        Some(std::mem::take(&mut bucket.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LogEvent, Panicked, ServiceReady};
    use super::*;

    #[test]
    fn floods_are_held_back_and_counted() {
        let limit = RateLimit::new();
        let burst = (0..1000).filter(|_| limit.admit(Panicked::SPEC, 0).is_some()).count();
        assert_eq!(burst, 50);
        assert_eq!(limit.admit(Panicked::SPEC, 100), Some(950), "one token came back, and 950 were held back");
        assert_eq!(limit.admit(Panicked::SPEC, 99), None, "a clock that steps back gives no tokens");
        assert_eq!(limit.admit(Panicked::SPEC, 200), Some(1));
        assert!((0..1000).all(|_| limit.admit(ServiceReady::SPEC, 0) == Some(0)), "INFO is never held back");
    }
}
