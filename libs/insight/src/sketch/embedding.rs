//! Embeddings as serving found them.

use super::log_histogram::LogHistogram;
use super::moments::Moments;
use super::{Sketch, UNIT, fixed, spread};
use crate::estimate::{Estimate, T_15};
use crate::event::EmbeddingRead;
use attune_domain::Segment;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const GROUPS: usize = 16;
const STALE: Duration = Duration::from_secs(300);

/// Sums of longer vectors could leave the range of fixed point.
const LONGEST: f64 = 1e3;

const SERVED: usize = 0;
const PRESENT: usize = 1;
const STALE_ONES: usize = 2;

/// `128 d` bytes of sums (16 kB at d = 128), five histograms (at most 46 kB each, usually 2) and 2 kB of rates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Embeddings {
    rates: Moments<3>,
    /// Seconds, by [`Segment::code`].
    ages: [LogHistogram; 4],
    norms: LogHistogram,
    /// Sum of each dimension, in 16 groups of visitors.
    sums: Vec<i64>,
    counts: [u64; GROUPS],
}

impl Embeddings {
    /// Vectors of another length than the baseline's say nothing of its drift.
    pub(crate) fn add(&mut self, read: &EmbeddingRead<'_>, dimensions: usize) {
        self.rates.add(read.visitor, SERVED, 1);
        let Some((age, vector)) = read.found else { return };
        self.rates.add(read.visitor, PRESENT, 1);
        self.rates.add(read.visitor, STALE_ONES, i64::from(age > STALE));
        self.ages[usize::from(read.segment.code())].add(age.as_secs_f32());
        let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if norm.is_finite() {
            self.norms.add(norm as f32);
        }
        if vector.len() == dimensions && norm < LONGEST {
            let group = (spread(read.visitor) >> 60) as usize;
            self.sums.resize(GROUPS * dimensions, 0);
            let sums = &mut self.sums[group * dimensions..(group + 1) * dimensions];
            sums.iter_mut().zip(vector).for_each(|(sum, x)| *sum += fixed(f64::from(*x)));
            self.counts[group] += 1;
        }
    }

    /// Quantile of the age at reading, in seconds. At reading, not at writing: a dead pipeline writes nothing.
    pub(crate) fn freshness(&self, segment: Segment, q: f64) -> Estimate {
        self.ages[usize::from(segment.code())].quantile_estimate(q)
    }

    pub(crate) fn norm(&self, q: f64) -> Estimate {
        self.norms.quantile_estimate(q)
    }

    /// Share of embeddings read that were older than 300 s.
    pub(crate) fn staleness(&self) -> Estimate {
        self.rates.share(STALE_ONES, PRESENT)
    }

    /// Reads that found an embedding over all reads.
    pub(crate) fn coverage(&self) -> Estimate {
        self.rates.share(PRESENT, SERVED)
    }

    /// `1 - cos(mean of the window, mean of the baseline)`. Without drift it is about `trace of the covariance /
    /// (2 n |mean|^2)`: noise below 5 000 reads. Interval by leaving out one group of visitors after the other.
    pub(crate) fn drift(&self, baseline: &[f32]) -> Estimate {
        let d = baseline.len();
        let samples = self.counts.iter().sum();
        if samples == 0 || self.sums.len() != GROUPS * d {
            return Estimate::ABSENT;
        }
        let mut total = vec![0i64; d];
        for group in self.sums.chunks_exact(d) {
            total.iter_mut().zip(group).for_each(|(sum, x)| *sum += x);
        }
        let without = |group: &[i64]| distance(total.iter().zip(group).map(|(sum, x)| sum - x), baseline);
        let parts: Vec<f64> = self.sums.chunks_exact(d).map(without).collect();
        let mean = parts.iter().sum::<f64>() / GROUPS as f64;
        let squares: f64 = parts.iter().map(|part| (part - mean).powi(2)).sum();
        let error = (squares * (GROUPS as f64 - 1.0) / GROUPS as f64).sqrt();
        Estimate::around(distance(total.iter().copied(), baseline), T_15 * error, samples).clamp(0.0, 2.0)
    }
}

fn distance(sums: impl Iterator<Item = i64>, baseline: &[f32]) -> f64 {
    let (mut dot, mut own, mut other) = (0.0, 0.0, 0.0);
    for (sum, &b) in sums.zip(baseline) {
        let (a, b) = (sum as f64 / UNIT, f64::from(b));
        dot += a * b;
        own += a * a;
        other += b * b;
    }
    1.0 - dot / (own * other).sqrt()
}

impl Sketch for Embeddings {
    fn merge(&mut self, other: &Self) {
        self.rates.merge(&other.rates);
        self.ages.iter_mut().zip(&other.ages).for_each(|(ages, more)| ages.merge(more));
        self.norms.merge(&other.norms);
        if self.sums.len() < other.sums.len() {
            self.sums.resize(other.sums.len(), 0);
        }
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, more)| *sum += more);
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
    }

    fn heap_bytes(&self) -> usize {
        let histograms = self.ages.iter().map(Sketch::heap_bytes).sum::<usize>() + self.norms.heap_bytes();
        self.rates.heap_bytes() + histograms + self.sums.len() * size_of::<i64>()
    }
}
