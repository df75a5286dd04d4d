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

/// Share of `missing` that is expected of an attribute at least: training data is often complete, and against a share of 0
/// a single missing value would be an infinite surprise.
const LEAST_MISSING: f64 = 0.01;
/// An attribute with more values has no histogram.
const MOST_VALUES: usize = 128;

/// By feature column, and by user attribute.
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

    /// Of an attribute: a bucket for each value of its column by place, the first for `missing`.
    pub fn of_values(counts: &[u64]) -> Option<Self> {
        let samples: u64 = counts.iter().sum();
        if samples == 0 || !(2..=MOST_VALUES).contains(&counts.len()) {
            return None;
        }
        let share = |count: u64| count as f64 / samples as f64;
        let missing = share(counts[0]).max(LEAST_MISSING);
        let stated = (samples - counts[0]).max(1) as f64;
        let others = counts[1..].iter().map(|&count| (1.0 - missing) * count as f64 / stated);
        Some(Self {
            bounds: (1..counts.len()).map(|at| at as f32).collect(),
            shares: std::iter::once(if samples == counts[0] { 1.0 } else { missing }).chain(others).collect(),
            mean: counts.iter().enumerate().map(|(at, &count)| at as f64 * share(count)).sum(),
            samples,
        })
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

    #[test]
    fn a_value_has_its_bucket_and_missing_is_never_unthinkable() {
        let complete = Histogram::of_values(&[0, 30, 60, 10]).unwrap();
        assert_eq!([0.0, 1.0, 2.0, 3.0].map(|code| complete.bucket(code)), [0, 1, 2, 3]);
        assert!((complete.shares[0] - 0.01).abs() < 1e-9 && (complete.shares[2] - 0.594).abs() < 1e-9);
        let holey = Histogram::of_values(&[50, 50]).unwrap();
        assert_eq!(holey.shares, [0.5, 0.5]);
        assert_eq!(Histogram::of_values(&[7, 0]).unwrap().shares, [1.0, 0.0]);
        assert_eq!((Histogram::of_values(&[0, 0]), Histogram::of_values(&[3])), (None, None));
    }
}
