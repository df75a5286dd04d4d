//! Mean of independent numbers between 0 and 1.

use super::{Sketch, UNIT, fixed};
use crate::estimate::{Estimate, Z};
use serde::{Deserialize, Serialize};

/// Count, sum and sum of squares. 24 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mean {
    n: u64,
    sum: i64,
    squares: i64,
}

impl Mean {
    pub(crate) fn add(&mut self, value: f64) {
        self.n += 1;
        self.sum += fixed(value);
        self.squares += fixed(value * value);
    }

    /// Mean, +- 1.96 s / sqrt(n).
    pub(crate) fn estimate(&self) -> Estimate {
        let n = self.n as f64;
        let mean = self.sum as f64 / UNIT / n;
        let variance = (self.squares as f64 / UNIT / n - mean * mean).max(0.0) * n / (n - 1.0).max(1.0);
        Estimate::around(mean, Z * (variance / n).sqrt(), self.n).clamp(0.0, 1.0)
    }
}

impl Sketch for Mean {
    fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

/// By cut-off: recall at 10, 100 and 1000.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recalls(pub(crate) [Mean; 3]);

impl Sketch for Recalls {
    fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mean, more)| mean.merge(more));
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}
