//! Figures with their intervals, for people and for programs.

use attune_model::evaluation::{Difference, Measure, Report, paired_bootstrap};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

const ROUNDS: usize = 2_000;
const SEED: u64 = 1;

/// A mean, or a difference of means, and the interval that holds 95 % of its bootstrap replicates over visitors.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl From<Difference> for Estimate {
    fn from(d: Difference) -> Self {
        Self { mean: d.mean, low: d.low, high: d.high }
    }
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.4} [{:.4}, {:.4}]", self.mean, self.low, self.high)
    }
}

impl Estimate {
    fn signed(self) -> String {
        format!("{:+.4} [{:+.4}, {:+.4}]", self.mean, self.low, self.high)
    }
}

/// A report's own mean, resampled in the same way as differences are.
pub(super) fn mean(report: &Report, measure: Measure) -> Option<Estimate> {
    let nothing = Report { name: String::new(), ranks: vec![None; report.ranks.len()] };
    difference(report, &nothing, measure)
}

pub(super) fn difference(a: &Report, b: &Report, measure: Measure) -> Option<Estimate> {
    paired_bootstrap(a, b, measure, ROUNDS, SEED).map(Into::into)
}

pub(super) fn plain(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(|| "-".to_owned(), |e| e.to_string())
}

pub(super) fn signed(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(|| "-".to_owned(), Estimate::signed)
}

/// A mean over cases that are not ranks.
pub(super) fn estimate(values: &[f64]) -> Option<Estimate> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let draw = |rng: &mut ChaCha8Rng| (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64;
    let mut means: Vec<f64> = (0..ROUNDS).map(|_| draw(&mut rng)).collect();
    means.sort_by(f64::total_cmp);
    let quantile = |q: f64| means[((ROUNDS - 1) as f64 * q).round() as usize];
    Some(Estimate { mean: values.iter().sum::<f64>() / n as f64, low: quantile(0.025), high: quantile(0.975) })
}

/// Columns as wide as their widest cell; the first flush left.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([head[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["x", "y"], &rows), "x       y\na       1\nlonger  2");
    }

    #[test]
    fn an_estimate_of_a_constant_has_no_width() {
        let report = Report { name: "a".into(), ranks: vec![Some(0); 20] };
        let sure = mean(&report, Measure::Ndcg(10)).unwrap();
        assert_eq!((sure.mean, sure.low, sure.high), (1.0, 1.0, 1.0));
        assert_eq!(signed(Some(sure)), "+1.0000 [+1.0000, +1.0000]");
        assert!(mean(&Report { name: "b".into(), ranks: Vec::new() }, Measure::Ndcg(10)).is_none());
    }
}
