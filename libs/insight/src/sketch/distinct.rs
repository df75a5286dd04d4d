//! How many different visitors, and how many of them came again.

use super::{Sketch, TREE_ENTRY, spread};
use crate::estimate::{Estimate, Z};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const MOST: usize = 8_192;

/// The 8 192 smallest hashes ever seen (bottom-k, a theta sketch: Bar-Yossef et al., RANDOM 2002; Dasgupta et al., ICDT
/// 2016). Exact below that many visitors; above, a uniform sample of them whose relative standard error is
/// `1 / sqrt(8 191)` = 1.1 %. Unlike HyperLogLog it also intersects, which the return rate needs.
/// At most 131 kB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distinct {
    hashes: BTreeSet<u64>,
    /// Every hash below it that was seen is in `hashes`.
    below: u64,
}

impl Distinct {
    pub(crate) fn add(&mut self, visitor: u64) {
        self.insert(spread(visitor ^ 0x5bd1_e995));
    }

    fn insert(&mut self, hash: u64) {
        if hash < self.below && self.hashes.insert(hash) {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        while self.hashes.len() > MOST {
            if let Some(last) = self.hashes.pop_last() {
                self.below = last;
            }
        }
    }

    /// `k / t` with `t` the share of hashes below the threshold.
    pub(crate) fn count(&self) -> Estimate {
        let n = self.hashes.len() as f64;
        if self.below == u64::MAX {
            return Estimate::exact(n, self.hashes.len() as u64);
        }
        let count = n / (self.below as f64 / (u64::MAX as f64 + 1.0));
        Estimate::around(count, Z * count / (n - 1.0).sqrt(), self.hashes.len() as u64)
    }

    /// Of the visitors here, the share that is also in `later`; over those whose hash either sketch would hold.
    pub(crate) fn share_in(&self, later: &Self) -> Estimate {
        let below = self.below.min(later.below);
        let (mut n, mut again) = (0u64, 0u64);
        for hash in self.hashes.range(..below) {
            n += 1;
            again += u64::from(later.hashes.contains(hash));
        }
        Estimate::share(again as f64 / n as f64, n as f64, Z, n)
    }
}

impl Default for Distinct {
    fn default() -> Self {
        Self { hashes: BTreeSet::new(), below: u64::MAX }
    }
}

impl Sketch for Distinct {
    fn merge(&mut self, other: &Self) {
        self.below = self.below.min(other.below);
        self.hashes.extend(other.hashes.range(..self.below));
        self.hashes.split_off(&self.below);
        self.shrink();
    }

    fn heap_bytes(&self) -> usize {
        self.hashes.len() * (size_of::<u64>() + TREE_ENTRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(visitors: std::ops::Range<u64>) -> Distinct {
        let mut sketch = Distinct::default();
        visitors.for_each(|visitor| sketch.add(visitor));
        sketch
    }

    #[test]
    fn exact_while_few_and_within_its_error_when_many() {
        assert_eq!(of(0..5_000).count(), Estimate::exact(5_000.0, 5_000));
        let many = of(0..300_000).count();
        assert!(many.contains(300_000.0) && many.high - many.low < 0.05 * 300_000.0, "{many:?}");
    }

    #[test]
    fn union_and_intersection_over_samples() {
        let (a, b) = (of(0..100_000), of(70_000..200_000));
        let mut ab = a.clone();
        ab.merge(&b);
        assert_eq!(ab, of(0..200_000));
        let mut ba = b.clone();
        ba.merge(&a);
        assert_eq!(ab, ba);
        let mut few = of(0..10);
        few.merge(&a);
        assert_eq!(few, a);
        let again = a.share_in(&b);
        assert!(again.contains(0.3) && again.samples > 3_000, "{again:?}");
    }
}
