//! Offline evaluation with its protocol: each visitor's last first-touched item is held out, and a recommender that
//! sees the window before it must find it in the whole catalogue.
//!
//! Lists are cleaned before they are judged: items of the history, repeats and items outside the catalogue are dropped.

mod baselines;

pub use baselines::{ItemKnn, Popularity, random};

use crate::progress::Progress;
use crate::train::{likes, window_event};
use attune_dataset::Dataset;
use attune_domain::{Context, EventKind, ItemIx, UserWindow};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

/// One visitor's question.
#[derive(Debug, Clone)]
pub struct Case {
    /// Index into the data set's users.
    pub user: usize,
    /// Everything before the held-out event.
    pub history: UserWindow,
    pub target: ItemIx,
    /// Time and circumstances of the held-out event.
    pub at: i64,
    pub context: Context,
}

/// A data set without the held-out events, and the questions about them.
#[derive(Debug, Clone)]
pub struct Split {
    pub train: Dataset,
    pub cases: Vec<Case>,
}

/// Holds out the `back`-th last item that each visitor came to like (1 is the last), with everything the visitor did
/// from then on. `leave_out(data, 2)` is for tuning, `leave_out(data, 1)` for the test. Ties are in file order. A
/// visitor with fewer than `back + 1` such items stays in the training data whole.
pub fn leave_out(data: &Dataset, back: usize) -> Split {
    let mut first_touches: Vec<Vec<usize>> = vec![Vec::new(); data.users.len()];
    let mut touched: Vec<HashSet<ItemIx>> = vec![HashSet::new(); data.users.len()];
    for (index, event) in data.events.iter().enumerate() {
        let user = event.user as usize;
        if event.kind != EventKind::Impression && touched[user].insert(event.item) && likes(event.kind) {
            first_touches[user].push(index);
        }
    }
    let held = |touches: &Vec<usize>| (touches.len() > back && back > 0).then(|| touches[touches.len() - back]);
    let cuts: Vec<Option<usize>> = first_touches.iter().map(held).collect();
    // A slate is shown before it is clicked; its impressions must not stay behind and give the answer away.
    let slates: HashSet<(u32, u32)> =
        cuts.iter().flatten().filter_map(|&at| Some((data.events[at].user, data.events[at].slate?.slate))).collect();
    let mut windows = vec![UserWindow::default(); data.users.len()];
    let mut train = Dataset { events: Vec::with_capacity(data.events.len()), ..data.clone() };
    for (index, event) in data.events.iter().enumerate() {
        let cut = cuts[event.user as usize];
        let same_slate = event.slate.is_some_and(|s| slates.contains(&(event.user, s.slate)));
        if cut.is_some_and(|cut| index >= cut) || same_slate {
            continue;
        }
        windows[event.user as usize].insert(window_event(event, index));
        train.events.push(*event);
    }
    let case = |(user, cut): (usize, &Option<usize>)| {
        let event = &data.events[(*cut)?];
        let history = windows[user].clone();
        Some(Case { user, history, target: event.item, at: event.occurred_at, context: event.context })
    };
    let cases = cuts.iter().enumerate().filter_map(case).collect();
    Split { train, cases }
}

/// A figure of quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Recall(usize),
    Ndcg(usize),
}

impl Measure {
    /// Of one case, whose target stood at `rank` (0 is the top), or not in the list.
    pub fn of(self, rank: Option<usize>) -> f64 {
        match (self, rank) {
            (Self::Recall(k), Some(rank)) if rank < k => 1.0,
            (Self::Ndcg(k), Some(rank)) if rank < k => 1.0 / (rank as f64 + 2.0).log2(),
            _ => 0.0,
        }
    }
}

/// Where each case's target stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub name: String,
    /// Parallel to the cases.
    pub ranks: Vec<Option<usize>>,
}

impl Report {
    /// Mean over the cases; None without cases.
    pub fn mean(&self, measure: Measure) -> Option<f64> {
        let sum: f64 = self.ranks.iter().map(|&rank| measure.of(rank)).sum();
        (!self.ranks.is_empty()).then(|| sum / self.ranks.len() as f64)
    }
}

/// Asks `recommend` for a list, best first, for the history of each case; it also gets the case's number.
pub fn evaluate(
    name: &str,
    split: &Split,
    progress: &dyn Progress,
    mut recommend: impl FnMut(&UserWindow, usize) -> Vec<ItemIx>,
) -> Report {
    progress.stage(name, split.cases.len() as u64);
    let mut ranks = Vec::with_capacity(split.cases.len());
    for (at, case) in split.cases.iter().enumerate() {
        let mut listed = HashSet::new();
        let catalogue = split.train.items.len();
        let list = recommend(&case.history, at);
        let mut fair =
            list.iter().filter(|ix| ix.index() < catalogue && !case.history.has_seen(**ix) && listed.insert(**ix));
        ranks.push(fair.position(|&ix| ix == case.target));
        progress.tick(at as u64 + 1, "");
    }
    Report { name: name.to_owned(), ranks }
}

/// A difference of means and the interval that holds 95 % of its bootstrap replicates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    pub cases: usize,
}

/// Paired bootstrap over visitors of `a` less `b`, seeded. None where the reports are not about the same cases.
pub fn paired_bootstrap(a: &Report, b: &Report, measure: Measure, rounds: usize, seed: u64) -> Option<Difference> {
    let n = a.ranks.len();
    if n == 0 || n != b.ranks.len() || rounds == 0 {
        return None;
    }
    let gains: Vec<f64> = a.ranks.iter().zip(&b.ranks).map(|(&x, &y)| measure.of(x) - measure.of(y)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> =
        (0..rounds).map(|_| (0..n).map(|_| gains[rng.random_range(0..n)]).sum::<f64>() / n as f64).collect();
    means.sort_by(f64::total_cmp);
    let quantile = |q: f64| means[((rounds - 1) as f64 * q).round() as usize];
    Some(Difference {
        mean: gains.iter().sum::<f64>() / n as f64,
        low: quantile(0.025),
        high: quantile(0.975),
        cases: n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_follow_their_definitions() {
        let report = Report { name: "x".into(), ranks: vec![Some(0), Some(1), Some(10), None] };
        assert_eq!(report.mean(Measure::Recall(10)), Some(0.5));
        assert_eq!(report.mean(Measure::Recall(100)), Some(0.75));
        let ndcg = (1.0 + 1.0 / 3f64.log2()) / 4.0;
        assert!((report.mean(Measure::Ndcg(10)).unwrap() - ndcg).abs() < 1e-12);
    }

    #[test]
    fn bootstrap_interval_holds_the_mean_and_knows_certainty() {
        let all = Report { name: "a".into(), ranks: vec![Some(0); 50] };
        let none = Report { name: "b".into(), ranks: vec![None; 50] };
        let sure = paired_bootstrap(&all, &none, Measure::Recall(10), 200, 3).unwrap();
        assert_eq!((sure.mean, sure.low, sure.high), (1.0, 1.0, 1.0));
        let mixed = Report { name: "c".into(), ranks: (0..50).map(|i| (i % 2 == 0).then_some(0)).collect() };
        let unsure = paired_bootstrap(&mixed, &none, Measure::Recall(10), 200, 3).unwrap();
        assert!(unsure.low < unsure.mean && unsure.mean < unsure.high);
        assert_eq!(paired_bootstrap(&all, &Report { ranks: vec![], ..none }, Measure::Recall(10), 200, 3), None);
    }
}
