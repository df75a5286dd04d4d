//! Quantiles of positive numbers.

use super::{Sketch, TREE_ENTRY, UNIT, fixed};
use crate::estimate::{Estimate, Z};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MANTISSA_BITS: u32 = 5;
const SHIFT: u32 = f32::MANTISSA_DIGITS - 1 - MANTISSA_BITS;
/// 2^-40 and 2^40: what is beyond counts as if it were there.
const LEAST: f32 = 9.094_947e-13;
const MOST: f32 = 1.099_511_6e12;

/// Cell of a number: its exponent and five bits of its mantissa, so 32 cells an octave and a relative width of 3 % at
/// most. Bits, not a logarithm: the same on every machine.
pub(crate) fn cell(value: f32) -> u16 {
    let value = if value.is_nan() { LEAST } else { value.clamp(LEAST, MOST) };
    (value.to_bits() >> SHIFT) as u16
}

fn lower(cell: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(cell) << SHIFT))
}

/// A fixed log-histogram (as HdrHistogram and DDSketch, Masson et al., VLDB 2019): quantiles within 3 % of their
/// value, interpolated within a cell. At most 2 561 cells of 18 bytes: 46 kB; usually some hundred.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogHistogram {
    cells: BTreeMap<u16, u64>,
    n: u64,
    sum: i128,
    squares: i128,
}

impl LogHistogram {
    pub(crate) fn add(&mut self, value: f32) {
        *self.cells.entry(cell(value)).or_default() += 1;
        self.n += 1;
        let value = f64::from(value);
        self.sum += i128::from(fixed(value));
        self.squares += i128::from(fixed(value * value));
    }

    pub(crate) fn samples(&self) -> u64 {
        self.n
    }

    /// Mean, +- 1.96 s / sqrt(n); of numbers up to 1 000, whose squares fixed point holds.
    pub(crate) fn mean_estimate(&self) -> Estimate {
        let n = self.n as f64;
        let mean = self.sum as f64 / UNIT / n;
        let variance = (self.squares as f64 / UNIT / n - mean * mean).max(0.0);
        Estimate::around(mean, Z * (variance / n).sqrt(), self.n)
    }

    /// The value below which a share `q` lies. NaN when empty.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let rank = q.clamp(0.0, 1.0) * self.n as f64;
        let mut before = 0.0;
        for (&cell, &count) in &self.cells {
            let count = count as f64;
            if before + count >= rank {
                let (low, high) = (lower(cell), lower(cell + 1));
                return low + (high - low) * ((rank - before) / count);
            }
            before += count;
        }
        f64::NAN
    }

    /// With the interval that the binomial spread of ranks gives.
    pub(crate) fn quantile_estimate(&self, q: f64) -> Estimate {
        let half = Z * (q * (1.0 - q) / self.n as f64).sqrt();
        Estimate::new(self.quantile(q), self.quantile(q - half), self.quantile(q + half), self.n)
    }

    /// Of the values of `self`, the share below `value`; within a cell as if it were evenly filled.
    pub(crate) fn share_below(&self, value: f64) -> f64 {
        let at = cell(value as f32);
        let below: u64 = self.cells.range(..at).map(|(_, &count)| count).sum();
        let within = self.cells.get(&at).map_or(0.0, |&count| {
            let (low, high) = (lower(at), lower(at + 1));
            count as f64 * ((value - low) / (high - low)).clamp(0.0, 1.0)
        });
        (below as f64 + within) / self.n as f64
    }
}

impl Sketch for LogHistogram {
    fn merge(&mut self, other: &Self) {
        for (&cell, &count) in &other.cells {
            *self.cells.entry(cell).or_default() += count;
        }
        self.n += other.n;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn heap_bytes(&self) -> usize {
        self.cells.len() * (size_of::<(u16, u64)>() + TREE_ENTRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut histogram = LogHistogram::default();
        (1..=10_000).for_each(|i| histogram.add(i as f32 * 0.01));
        for q in [0.01, 0.2, 0.5, 0.95, 0.999] {
            let (got, truth) = (histogram.quantile(q), q * 100.0);
            assert!((got / truth - 1.0).abs() < 0.02, "{q}: {got} for {truth}");
            assert!((histogram.share_below(truth) - q).abs() < 0.01);
        }
        assert!((histogram.mean_estimate().value - 50.005).abs() < 1e-3);
        assert!(LogHistogram::default().quantile(0.5).is_nan());
    }

    #[test]
    fn what_is_out_of_range_is_bounded() {
        let mut histogram = LogHistogram::default();
        for value in [f32::NAN, f32::INFINITY, -1.0, 0.0, f32::MAX] {
            histogram.add(value);
        }
        assert_eq!((histogram.cells.len(), histogram.samples()), (2, 5));
    }
}
