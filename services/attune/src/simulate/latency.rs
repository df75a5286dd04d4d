//! Quantiles of latencies in constant memory.

use serde::Serialize;
use std::time::Duration;

/// A bucket is 4 % wide, so a quantile is told within 2 %.
const GROWTH: f64 = 1.04;
/// From a microsecond to nine minutes.
const BUCKETS: usize = 512;

pub(crate) struct Latencies {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct LatencyReport {
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub samples: u64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0 }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        let micros = (latency.as_secs_f64() * 1e6).max(1.0);
        let bucket = (micros.ln() / GROWTH.ln()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.total += 1;
    }

    /// A p99 of fewer than a hundred samples is the maximum under another name, so it is absent.
    pub(crate) fn report(&self) -> LatencyReport {
        LatencyReport { p50_ms: self.quantile(0.5, 1), p99_ms: self.quantile(0.99, 100), samples: self.total }
    }

    fn quantile(&self, q: f64, least: u64) -> Option<f64> {
        if self.total < least {
            return None;
        }
        let wanted = ((self.total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(GROWTH.powf(bucket as f64 + 0.5) / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.report(), LatencyReport::default());
        for n in 1..=1000u64 {
            latencies.add(Duration::from_micros(n * 100));
        }
        let report = latencies.report();
        assert!((report.p50_ms.unwrap() / 50.0 - 1.0).abs() < 0.021, "{report:?}");
        assert!((report.p99_ms.unwrap() / 99.0 - 1.0).abs() < 0.021, "{report:?}");
        latencies.add(Duration::from_secs(100_000));
        assert_eq!(latencies.report().samples, 1001);
    }
}
