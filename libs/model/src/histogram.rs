//! Distributions of the training features: what drift is measured against.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Shares per bucket. `bounds` are inner bounds, ascending: bucket i is `bounds[i-1] <= x < bounds[i]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    pub bounds: Vec<f32>,
    pub shares: Vec<f64>,
    pub mean: f64,
    pub samples: u64,
}

/// By feature column.
pub type Histograms = BTreeMap<String, Histogram>;

impl Histogram {
    /// Buckets of about equal share; fewer where values repeat. None without a finite value.
    pub fn of(values: impl IntoIterator<Item = f32>, buckets: usize) -> Option<Self> {
        let mut sorted: Vec<f32> = values.into_iter().filter(|v| v.is_finite()).collect();
        if sorted.is_empty() {
            return None;
        }
        sorted.sort_by(f32::total_cmp);
        let mut bounds: Vec<f32> = (1..buckets).map(|b| sorted[b * sorted.len() / buckets]).collect();
        bounds.dedup();
        bounds.retain(|&b| b > sorted[0]);
        let mut shares = vec![0.0; bounds.len() + 1];
        let mut sum = 0.0;
        for &value in &sorted {
            shares[bounds.partition_point(|&b| b <= value)] += 1.0;
            sum += f64::from(value);
        }
        let samples = sorted.len() as f64;
        shares.iter_mut().for_each(|share| *share /= samples);
        Some(Self { bounds, shares, mean: sum / samples, samples: sorted.len() as u64 })
    }

    pub fn bucket(&self, value: f32) -> usize {
        self.bounds.partition_point(|&b| b <= value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_equal_shares_and_repeats_collapse() {
        let even = Histogram::of((0..100).map(|v| v as f32), 4).unwrap();
        assert_eq!(even.bounds, [25.0, 50.0, 75.0]);
        assert!(even.shares.iter().all(|&s| (s - 0.25).abs() < 1e-9));
        assert_eq!(even.bucket(49.9), 1);
        let flat = Histogram::of([3.0; 9].into_iter().chain([f32::NAN]), 4).unwrap();
        assert_eq!((flat.bounds.len(), flat.samples), (0, 9));
        assert_eq!(Histogram::of([], 4), None);
    }
}
