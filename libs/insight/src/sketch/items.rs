//! Exact counts over the dense numbers of items.

use super::{Sketch, TREE_ENTRY};
use crate::estimate::{Estimate, Z};
use crate::event::CatalogueItem;
use attune_domain::{ItemIx, UnixMillis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const DAY_MS: i64 = 86_400_000;
/// Impressions that make a new item seen.
const WARM: u32 = 10;

/// Impressions by item. At most 16 bytes for each distinct item shown in the sub-window: 16 MB per million.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ItemCounts(BTreeMap<u32, u32>);

impl ItemCounts {
    pub(crate) fn add(&mut self, item: ItemIx) {
        let count = self.0.entry(item.0).or_default();
        *count = count.saturating_add(1);
    }

    pub(crate) fn over(&self, catalogue: &[CatalogueItem]) -> Over {
        let mut counts: Vec<u32> =
            catalogue.iter().map(|entry| self.0.get(&entry.item.0).copied().unwrap_or(0)).collect();
        let shown = counts.iter().filter(|&&count| count > 0).count();
        counts.sort_unstable();
        Over { counts, shown }
    }

    /// Of the items younger than a day at `now`, the share with more than 10 impressions. Every such item is looked at,
    /// so nothing is sampled; the interval is Wilson's for what another day's items would have given.
    pub(crate) fn cold_coverage(&self, catalogue: &[CatalogueItem], now: UnixMillis) -> Estimate {
        let young = |entry: &&CatalogueItem| entry.created_at.is_some_and(|at| at <= now && now - at < DAY_MS);
        let (mut n, mut warm) = (0u64, 0u64);
        for entry in catalogue.iter().filter(young) {
            n += 1;
            warm += u64::from(self.0.get(&entry.item.0).is_some_and(|&count| count > WARM));
        }
        Estimate::share(warm as f64 / n as f64, n as f64, Z, n)
    }
}

/// Counts of every item of the catalogue, ascending.
pub(crate) struct Over {
    counts: Vec<u32>,
    shown: usize,
}

impl Over {
    pub(crate) fn impressions(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    /// Distinct items shown over items in the catalogue: exact, so without a width.
    pub(crate) fn coverage(&self) -> Estimate {
        Estimate::exact(self.shown as f64 / self.counts.len() as f64, self.impressions())
    }

    /// `sum over ranks i of (2 i - n - 1) x_i / (n sum x)`, items never shown included: exact for the window. The
    /// interval is for the shares behind it: at fixed ranks the coefficient is the mean over impressions of
    /// `(2 i - n - 1) / n`. With few impressions an item chance alone makes counts uneven, and the number too high for
    /// those shares; the interval does not know that.
    pub(crate) fn gini(&self) -> Estimate {
        let (n, total) = (self.counts.len() as f64, self.impressions() as f64);
        let (mut sum, mut squares) = (0.0, 0.0);
        for (rank, &count) in self.counts.iter().enumerate() {
            let score = (2.0 * (rank as f64 + 1.0) - n - 1.0) / n;
            sum += score * f64::from(count);
            squares += score * score * f64::from(count);
        }
        let gini = sum / total;
        let variance = (squares / total - gini * gini).max(0.0) / total;
        Estimate::around(gini, Z * variance.sqrt(), self.impressions()).clamp(0.0, 1.0)
    }
}

impl Sketch for ItemCounts {
    fn merge(&mut self, other: &Self) {
        for (&item, &more) in &other.0 {
            let count = self.0.entry(item).or_default();
            *count = count.saturating_add(more);
        }
    }

    fn heap_bytes(&self) -> usize {
        self.0.len() * (size_of::<(u32, u32)>() + TREE_ENTRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gini_of_known_distributions() {
        let catalogue: Vec<_> = (0..4).map(|i| CatalogueItem { item: ItemIx(i), created_at: None }).collect();
        let gini = |counts: [u32; 4]| {
            let mut sketch = ItemCounts::default();
            for (item, &count) in counts.iter().enumerate() {
                (0..count).for_each(|_| sketch.add(ItemIx(item as u32)));
            }
            sketch.over(&catalogue).gini().value
        };
        assert_eq!(gini([5, 5, 5, 5]), 0.0);
        assert_eq!(gini([0, 0, 0, 8]), 0.75);
        assert_eq!(gini([1, 2, 3, 4]), 0.25);
    }
}
