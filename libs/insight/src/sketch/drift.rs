//! Whether features are still distributed as in training.

use super::Sketch;
use crate::config::FeatureBaseline;
use crate::estimate::{Estimate, Z};
use serde::{Deserialize, Serialize};

/// Counts of one feature: the bins of training, nulls and unseen categories. 8 bytes a bin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FeatureCounts {
    bins: Vec<u64>,
    null: u64,
    unseen: u64,
}

/// Each feature's counts, by its place in the baselines: 232 bytes a feature at 20 bins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Features(Vec<FeatureCounts>);

impl Features {
    pub(crate) fn at(&mut self, feature: usize) -> &mut FeatureCounts {
        if self.0.len() <= feature {
            self.0.resize_with(feature + 1, FeatureCounts::default);
        }
        &mut self.0[feature]
    }

    pub(crate) fn get(&self, feature: usize) -> FeatureCounts {
        self.0.get(feature).cloned().unwrap_or_default()
    }
}

impl FeatureCounts {
    pub(crate) fn add(&mut self, baseline: &FeatureBaseline, value: Option<f32>, unseen: bool) {
        match value.filter(|value| value.is_finite()) {
            _ if unseen => self.unseen += 1,
            None => self.null += 1,
            Some(value) => {
                self.bins.resize(baseline.shares.len(), 0);
                self.bins[baseline.bin(value)] += 1;
            }
        }
    }

    /// KL(current, training) and PSI = KL(current, training) + KL(training, current), in nats, over the bins of
    /// training, with half an observation added to each bin.
    ///
    /// Without drift `E[KL] = (B - 1) / 2N` and `E[PSI]` twice that (research section 8): the value keeps that bias, as
    /// the alerts' bounds and least samples assume, the interval is around the number without it. Its width is the
    /// delta method's, `Var(slope) / N` with the slope of the sum over the current shares (`ln p/q` for KL), which at no
    /// drift is twice the chi-square's.
    pub(crate) fn divergences(&self, baseline: &FeatureBaseline) -> [Estimate; 2] {
        let n: u64 = self.bins.iter().sum();
        let (total, bins) = (n as f64, self.bins.len() as f64);
        let terms: Vec<(f64, f64)> = self
            .bins
            .iter()
            .zip(&baseline.shares)
            .map(|(&count, &share)| ((count as f64 + 0.5) / (total + bins / 2.0), share.max(1e-6)))
            .collect();
        let rest = (bins - 1.0) / (2.0 * total);
        // Value of a sum over bins and the variance of its gradient over the current shares.
        let estimate = |value: &dyn Fn(f64, f64) -> f64, slope: &dyn Fn(f64, f64) -> f64, rests: f64| {
            let (mut sum, mut mean, mut squares) = (0.0, 0.0, 0.0);
            for &(p, q) in &terms {
                let s = slope(p, q);
                sum += value(p, q);
                mean += p * s;
                squares += p * s * s;
            }
            let variance = (squares - mean * mean).max(0.0) / total;
            let (centre, half) = (sum - rests * rest, Z * variance.sqrt());
            Estimate::new(sum, (centre - half).max(0.0), (centre + half).max(0.0), n)
        };
        [
            estimate(&|p, q| p * (p / q).ln(), &|p, q| (p / q).ln(), 1.0),
            estimate(&|p, q| (p - q) * (p / q).ln(), &|p, q| (p / q).ln() - q / p, 2.0),
        ]
    }

    pub(crate) fn null_share(&self) -> Estimate {
        self.share(self.null)
    }

    pub(crate) fn unseen_share(&self) -> Estimate {
        self.share(self.unseen)
    }

    fn share(&self, of: u64) -> Estimate {
        let n = self.bins.iter().sum::<u64>() + self.null + self.unseen;
        Estimate::share(of as f64 / n as f64, n as f64, Z, n)
    }

    fn merge(&mut self, other: &Self) {
        if self.bins.len() < other.bins.len() {
            self.bins.resize(other.bins.len(), 0);
        }
        self.bins.iter_mut().zip(&other.bins).for_each(|(count, more)| *count += more);
        self.null += other.null;
        self.unseen += other.unseen;
    }
}

impl Sketch for Features {
    fn merge(&mut self, other: &Self) {
        for (feature, more) in other.0.iter().enumerate() {
            self.at(feature).merge(more);
        }
    }

    fn heap_bytes(&self) -> usize {
        self.0.iter().map(|counts| size_of::<FeatureCounts>() + counts.bins.len() * 8).sum()
    }
}
