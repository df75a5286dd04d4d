//! What kind of things visitors are shown.

use super::log_histogram::LogHistogram;
use super::moments::Moments;
use super::{Sketch, TREE_ENTRY};
use crate::estimate::{Estimate, Z};
use crate::event::Decided;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Categories counted apart; those above are one.
const CATEGORIES: u16 = 4_095;
const FRESH: Duration = Duration::from_secs(7 * 86_400);

const SHOWN: usize = 0;
const UNSEEN: usize = 1;
const AGED: usize = 2;
const YOUNG: usize = 3;

/// At most 4 096 categories (74 kB) and two histograms (92 kB); usually some kB.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    categories: BTreeMap<u16, u64>,
    rates: Moments<4>,
    /// Scores under the popularity baseline: of everything shown, and of what was liked.
    shown: LogHistogram,
    liked: LogHistogram,
}

impl Content {
    pub(crate) fn shown(&mut self, decided: &Decided) {
        *self.categories.entry(decided.category.min(CATEGORIES)).or_default() += 1;
        self.rates.add(decided.visitor, SHOWN, 1);
        self.rates.add(decided.visitor, UNSEEN, i64::from(!decided.seen_before));
        if let Some(age) = decided.item_age {
            self.rates.add(decided.visitor, AGED, 1);
            self.rates.add(decided.visitor, YOUNG, i64::from(age < FRESH));
        }
        self.shown.add(decided.popularity);
    }

    pub(crate) fn liked(&mut self, decided: &Decided) {
        self.liked.add(decided.popularity);
    }

    /// `1 - sum n (n - 1) / (N (N - 1))`: unbiased for 1 - sum of squared shares (Simpson, Nature 1949), whose variance
    /// is `4 (sum p^3 - (sum p^2)^2) / N`.
    pub(crate) fn diversity(&self) -> Estimate {
        let total: u64 = self.categories.values().sum();
        let n = total as f64;
        let (mut pairs, mut squares, mut cubes) = (0.0, 0.0, 0.0);
        for &count in self.categories.values() {
            let (count, share) = (count as f64, count as f64 / n);
            pairs += count * (count - 1.0) / (n * (n - 1.0));
            squares += share * share;
            cubes += share * share * share;
        }
        let error = (4.0 * (cubes - squares * squares).max(0.0) / n).sqrt();
        Estimate::around(1.0 - pairs, Z * error, total).clamp(0.0, 1.0)
    }

    /// Share of impressions whose item the visitor had not been shown. A filter that calls unseen items seen at rate
    /// `f` shows `x` seen where `(x - f) / (1 - f)` are.
    pub(crate) fn novelty(&self, false_positives: f64) -> Estimate {
        let observed = self.rates.share(UNSEEN, SHOWN);
        let true_of = |unseen: f64| unseen / (1.0 - false_positives);
        Estimate::new(true_of(observed.value), true_of(observed.low), true_of(observed.high), observed.samples)
            .clamp(0.0, 1.0)
    }

    /// Share of impressions whose item was created less than 7 days before, among those whose age is known.
    pub(crate) fn freshness(&self) -> Estimate {
        self.rates.share(YOUNG, AGED)
    }

    /// Of the liked items, the share whose score under the popularity baseline lies below the 20th percentile of those
    /// of everything shown in the window. Samples are likes.
    pub(crate) fn serendipity(&self) -> Estimate {
        let likes = self.liked.samples();
        Estimate::share(self.liked.share_below(self.shown.quantile(0.2)), likes as f64, Z, likes)
    }
}

impl Sketch for Content {
    fn merge(&mut self, other: &Self) {
        for (&category, &count) in &other.categories {
            *self.categories.entry(category).or_default() += count;
        }
        self.rates.merge(&other.rates);
        self.shown.merge(&other.shown);
        self.liked.merge(&other.liked);
    }

    fn heap_bytes(&self) -> usize {
        self.categories.len() * (size_of::<(u16, u64)>() + TREE_ENTRY)
            + self.rates.heap_bytes()
            + self.shown.heap_bytes()
            + self.liked.heap_bytes()
    }
}
