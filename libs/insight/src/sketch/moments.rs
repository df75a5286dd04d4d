//! Sums by group of visitors: every rate of the platform, with an interval that knows visitors repeat themselves.
//!
//! The impressions of one visitor are alike, so a binomial interval over impressions is too narrow. Visitors are the
//! unit that assignment is random over; grouping them by hash into 64 groups keeps that unit (a group of whole
//! visitors is as independent of the others as they are) in bounded memory (bucketed delta method: Deng, Knoblich and
//! Lu, KDD 2018, section 3).

use super::{Sketch, spread};
use crate::estimate::{Estimate, T_63};
use serde::{Deserialize, Serialize};

pub(crate) const GROUPS: usize = 64;

/// `W` columns of sums in 64 groups: `512 W` bytes, none before the first observation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moments<const W: usize> {
    cells: Vec<i64>,
}

/// Sum of one column over sum of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    pub(crate) error: f64,
    pub(crate) over: i64,
}

impl<const W: usize> Moments<W> {
    pub(crate) fn add(&mut self, visitor: u64, column: usize, amount: i64) {
        self.cells.resize(GROUPS * W, 0);
        let group = (spread(visitor) >> 58) as usize;
        self.cells[group * W + column] += amount;
    }

    pub(crate) fn add_to_group(&mut self, group: usize, row: [i64; W]) {
        self.cells.resize(GROUPS * W, 0);
        self.cells[group * W..(group + 1) * W].iter_mut().zip(row).for_each(|(cell, more)| *cell += more);
    }

    /// The sums of one group; empty before the first observation.
    pub(crate) fn group(&self, group: usize) -> &[i64] {
        self.cells.get(group * W..(group + 1) * W).unwrap_or(&[])
    }

    pub(crate) fn sums(&self) -> [i64; W] {
        let mut sums = [0; W];
        for row in self.cells.chunks_exact(W) {
            sums.iter_mut().zip(row).for_each(|(sum, cell)| *sum += cell);
        }
        sums
    }

    /// `R = sum(n) / sum(d)`, with `Var R = G / (G - 1) * sum over groups (n_g - R d_g)^2 / sum(d)^2`.
    pub(crate) fn ratio(&self, above: usize, below: usize) -> Option<Ratio> {
        let sums = self.sums();
        let over = sums[below];
        if over <= 0 {
            return None;
        }
        let value = sums[above] as f64 / over as f64;
        let squares: f64 =
            self.cells.chunks_exact(W).map(|row| (row[above] as f64 - value * row[below] as f64).powi(2)).sum();
        let error = (squares * GROUPS as f64 / (GROUPS as f64 - 1.0)).sqrt() / over as f64;
        Some(Ratio { value, error, over })
    }

    /// A ratio of sums, in `unit`s of the numerator.
    pub(crate) fn mean(&self, above: usize, below: usize, unit: f64) -> Estimate {
        self.ratio(above, below).map_or(Estimate::ABSENT, |ratio| {
            Estimate::around(ratio.value / unit, T_63 * ratio.error / unit, ratio.over as u64)
        })
    }

    /// A share: Wilson's interval at the number of independent observations that the error amounts to.
    pub(crate) fn share(&self, above: usize, below: usize) -> Estimate {
        self.ratio(above, below).map_or(Estimate::ABSENT, |ratio| {
            let effective = ratio.effective();
            Estimate::share(ratio.value, effective, T_63, ratio.over as u64)
        })
    }
}

impl Ratio {
    /// Of a share: as many independent observations would be as sure. Repeats can only take away.
    fn effective(&self) -> f64 {
        let over = self.over as f64;
        let effective = self.value * (1.0 - self.value) / (self.error * self.error);
        if effective.is_finite() { effective.min(over) } else { over }
    }
}

/// `a / b - 1`, delta method on the logarithm (the ratio of two means is skewed, its logarithm hardly).
/// Samples are those of two equal halves that would tell as much: `4 / (1 / n_a + 1 / n_b)`.
pub(crate) fn lift(a: Option<Ratio>, b: Option<Ratio>) -> Estimate {
    let (Some(a), Some(b)) = (a, b) else { return Estimate::ABSENT };
    let ratio = a.value / b.value;
    let error = ((a.error / a.value).powi(2) + (b.error / b.value).powi(2)).sqrt();
    let samples = (4.0 / (1.0 / a.over as f64 + 1.0 / b.over as f64)) as u64;
    let end = |by: f64| (ratio.ln() + by * T_63 * error).exp() - 1.0;
    Estimate::new(ratio - 1.0, end(-1.0), end(1.0), samples)
}

impl<const W: usize> Sketch for Moments<W> {
    fn merge(&mut self, other: &Self) {
        if self.cells.is_empty() {
            self.cells.clone_from(&other.cells);
            return;
        }
        self.cells.iter_mut().zip(&other.cells).for_each(|(cell, more)| *cell += more);
    }

    fn heap_bytes(&self) -> usize {
        self.cells.len() * size_of::<i64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_of_a_visitor_widen_the_interval() {
        let (mut alike, mut apart) = (Moments::<2>::default(), Moments::<2>::default());
        for visitor in 0..2_000u64 {
            for view in 0..10 {
                alike.add(visitor, 0, 1);
                alike.add(visitor, 1, i64::from(visitor % 10 == 0));
                apart.add(visitor, 0, 1);
                apart.add(visitor, 1, i64::from((visitor + view) % 10 == 0));
            }
        }
        let width = |e: Estimate| e.high - e.low;
        let (alike, apart) = (alike.share(1, 0), apart.share(1, 0));
        assert_eq!((alike.value, apart.value), (0.1, 0.1));
        assert!(width(alike) > 2.0 * width(apart), "{alike:?} {apart:?}");
    }
}
