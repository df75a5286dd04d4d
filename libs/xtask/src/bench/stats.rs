//! Medians, quantiles, and how sure a median is.

use serde::Serialize;

const RESAMPLES: usize = 10_000;

/// A figure over the rounds of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: median(&sorted),
            min: sorted.first().copied().unwrap_or(f64::NAN),
            max: sorted.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// A median with its bootstrap 95 % interval.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Interval {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// The same values give the same interval.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mut state = 0x5EED_u64;
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let mut sample: Vec<f64> =
                    values.iter().map(|_| values[(next(&mut state) % values.len() as u64) as usize]).collect();
                sample.sort_by(f64::total_cmp);
                median(&sample)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        Self { median: median(&sorted), low: quantile(&medians, 0.025), high: quantile(&medians, 0.975) }
    }
}

fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The value that a share of `q` does not exceed.
pub(crate) fn quantile<T: Copy + Default>(sorted: &[T], q: f64) -> T {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|q| quantile(&values, q)), [1, 50, 99, 100]);
        assert_eq!(quantile::<u32>(&[], 0.5), 0);
    }

    #[test]
    fn an_interval_holds_its_median_and_is_as_wide_as_the_values() {
        let interval = Interval::of(&[1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 3.0]);
        assert_eq!(interval.median, 1.0);
        assert!(0.9 <= interval.low && interval.low <= 1.0 && 1.0 <= interval.high && interval.high <= 3.0);
        assert_eq!(Interval::of(&[2.0; 7]).low, 2.0);
        assert!(Spread::of(&[]).median.is_nan());
    }
}
