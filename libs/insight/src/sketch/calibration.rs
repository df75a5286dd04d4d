//! Whether a score is the probability that it claims to be.

use super::log_histogram::cell;
use super::{Sketch, TREE_ENTRY, UNIT, fixed};
use crate::estimate::{Estimate, Z};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const BINS: f64 = 15.0;

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Cell {
    n: u64,
    clicks: u64,
    scores: i64,
}

impl Cell {
    fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.clicks += other.clicks;
        self.scores += other.scores;
    }
}

/// Scores in cells of 3 % width, which a report joins into bins of equal mass: the bins fit the window, and sketches
/// still merge. At most 1 281 cells of 34 bytes: 44 kB; usually 100 to 200.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Calibration {
    cells: BTreeMap<u16, Cell>,
}

impl Calibration {
    pub(crate) fn shown(&mut self, score: f32) {
        let score = score.min(1.0);
        let cell = self.cells.entry(cell(score)).or_default();
        cell.n += 1;
        cell.scores += fixed(f64::from(score));
    }

    pub(crate) fn clicked(&mut self, score: f32) {
        self.cells.entry(cell(score.min(1.0))).or_default().clicks += 1;
    }

    /// Root mean squared calibration error over 15 bins of equal mass, with the variance term removed:
    /// `E2 = sum over bins w (g^2 - y (1 - y) / (n - 1))`, g the gap between the share of clicks y and the mean score,
    /// reported as `sign(E2) sqrt(|E2|)`. A perfectly calibrated model has E2 = 0 on average, so it comes out slightly
    /// negative as often as positive, where the plain error grows with 1/sqrt(n) (Broecker 2012; Ferro and Fricker
    /// 2012; Kumar, Liang and Ma, NeurIPS 2019; research section 8).
    /// The interval: normal on E2, `Var E2 = sum w^2 (2 s^4 + 4 g^2 s^2)`.
    pub(crate) fn error(&self) -> Estimate {
        let total: u64 = self.cells.values().map(|cell| cell.n).sum();
        let (mut square, mut variance) = (0.0, 0.0);
        for bin in self.bins(total) {
            let (n, w) = (bin.n as f64, bin.n as f64 / total as f64);
            let y = bin.clicks as f64 / n;
            let gap = y - bin.scores as f64 / UNIT / n;
            let s2 = y * (1.0 - y) / (n - 1.0);
            square += w * (gap * gap - s2);
            variance += w * w * (2.0 * s2 * s2 + 4.0 * (gap * gap - s2).max(0.0) * s2);
        }
        let root = |square: f64| square.signum() * square.abs().sqrt();
        let half = Z * variance.sqrt();
        Estimate::new(root(square), root(square - half), root(square + half), total)
    }

    /// A cell goes to the bin in which its middle lies; a cell above a fifteenth is a bin of its own.
    fn bins(&self, total: u64) -> Vec<Cell> {
        let mut bins: BTreeMap<u64, Cell> = BTreeMap::new();
        let mut before = 0.0;
        for cell in self.cells.values().filter(|cell| cell.n > 0) {
            let middle = (before + cell.n as f64 / 2.0) / total as f64;
            bins.entry((middle * BINS) as u64).or_default().merge(cell);
            before += cell.n as f64;
        }
        bins.into_values().filter(|bin| bin.n > 1).collect()
    }
}

impl Sketch for Calibration {
    fn merge(&mut self, other: &Self) {
        for (&key, more) in &other.cells {
            self.cells.entry(key).or_default().merge(more);
        }
    }

    fn heap_bytes(&self) -> usize {
        self.cells.len() * (size_of::<(u16, Cell)>() + TREE_ENTRY)
    }
}
