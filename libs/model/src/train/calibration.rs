//! Calibration of the click head, and what is measured of it.

use crate::train::logistic::{Point, logistic};
use crate::train::ranking::Evidence;

/// A head whose logits say less than this of the clicks is left as it is.
const LEAST_SLOPE: f64 = 0.05;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Validation {
    pub(crate) rows: u64,
    pub(crate) log_loss: f64,
    pub(crate) calibration_error: Option<f64>,
    pub(crate) auc: Option<f64>,
    pub(crate) first_slot: FirstSlot,
}

impl Validation {
    /// Of rows that only they have seen, each judged in its own slot, to which `position` is the way from the first.
    /// Calibration only where impressions were logged.
    pub(crate) fn of(rows: &[Judged], position: f32, evidence: Evidence) -> Self {
        if rows.is_empty() {
            return Self::default();
        }
        let label = |row: &Judged| f32::from(u8::from(row.clicked));
        let mut points: Vec<(f32, f32)> =
            rows.iter().map(|row| (row.logit + position * row.position, label(row))).collect();
        let n = points.len() as f64;
        let chance = |x: f32| chance(x).clamp(1e-9, 1.0 - 1e-9);
        let logged = evidence == Evidence::Impressions;
        let log_loss =
            points.iter().map(|&(x, y)| if y > 0.5 { -chance(x).ln() } else { -(1.0 - chance(x)).ln() }).sum::<f64>()
                / n;
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let error = points.chunks(points.len().div_ceil(10)).map(|bin| {
            (bin.iter().map(|&(x, _)| chance(x)).sum::<f64>() - bin.iter().map(|p| f64::from(p.1)).sum::<f64>()).abs()
                / n
        });
        Self {
            rows: points.len() as u64,
            log_loss,
            calibration_error: logged.then(|| error.sum()),
            auc: auc(&points),
            first_slot: if logged { FirstSlot::of(rows) } else { FirstSlot::default() },
        }
    }
}

/// A logged row: the click logit as if it stood in the first slot, where it stood, and what came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) logit: f32,
    /// ln(1 + zero-based slot), as the features have it.
    pub(crate) position: f32,
    pub(crate) clicked: bool,
}

/// What makes the click head's logit that of a chance: `slope * logit + intercept` in the first slot, and `position`
/// for each unit of ln(1 + slot) besides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Correction {
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
    pub(crate) position: f64,
}

impl Correction {
    /// From logged slates. How chances fall with the slot is found on the many rows learnt from, because it decides
    /// what the few rows kept back for it say of the first slot; those say slope and level, which learning flatters.
    /// One coefficient of the slot does not bend enough to be right at its end, so that two are used to find the level.
    pub(crate) fn of_impressions(learnt: &[Judged], kept: &[Judged]) -> Option<Self> {
        let slots = |row: &Judged| {
            let near = f64::from(row.position);
            [near, near.exp_m1()]
        };
        let point = |row: &Judged| {
            let [near, far] = slots(row);
            let columns = [f64::from(row.logit), 1.0, near, far];
            Point { columns, offset: 0.0, hit: row.clicked }
        };
        let learnt: Vec<_> = learnt.iter().map(point).collect();
        let [_, _, near, far] = logistic(&learnt, [1.0, 0.0, 0.0, 0.0])?;
        let point = |row: &Judged| {
            let slot = slots(row);
            let offset = near * slot[0] + far * slot[1];
            Point { columns: [f64::from(row.logit), 1.0], offset, hit: row.clicked }
        };
        let rows: Vec<_> = kept.iter().map(point).collect();
        let [slope, intercept] = logistic(&rows, [1.0, 0.0])?;
        let point = |row: &Judged| {
            let offset = slope * f64::from(row.logit) + intercept;
            Point { columns: [f64::from(row.position)], offset, hit: row.clicked }
        };
        let rows: Vec<_> = kept.iter().map(point).collect();
        let [position] = logistic(&rows, [near])?;
        (slope > LEAST_SLOPE).then_some(Self { slope, intercept, position })
    }

    /// From sampled negatives: the level alone.
    pub(crate) fn of_level(kept: &[Judged]) -> Option<Self> {
        let point = |row: &Judged| Point { columns: [1.0], offset: f64::from(row.logit), hit: row.clicked };
        let rows: Vec<_> = kept.iter().map(point).collect();
        let [intercept] = logistic(&rows, [0.0])?;
        Some(Self { slope: 1.0, intercept, position: 0.0 })
    }
}

/// Clicks in the first slot, which is where every item is asked for, beside what the head expected.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct FirstSlot {
    pub(crate) rows: u64,
    pub(crate) expected: f64,
    pub(crate) clicks: f64,
    /// Of the number of clicks, if the expectation is right.
    variance: f64,
}

impl FirstSlot {
    pub(crate) fn of(rows: &[Judged]) -> Self {
        let mut own = Self::default();
        for row in rows.iter().filter(|row| row.position == 0.0) {
            let p = chance(row.logit);
            own.rows += 1;
            own.expected += p;
            own.clicks += f64::from(u8::from(row.clicked));
            own.variance += p * (1.0 - p);
        }
        own
    }

    /// Whether the rows are enough to notice a level that is off by half, and notice nothing: two standard errors of
    /// the number of clicks are at most half of those expected, and the clicks are within them, or within a tenth.
    pub(crate) fn holds(&self) -> bool {
        let allowed = 2.0 * self.variance.sqrt();
        self.expected > 0.0
            && allowed <= 0.5 * self.expected
            && (self.expected - self.clicks).abs() <= allowed.max(0.1 * self.clicks)
    }

    /// Expected over observed.
    pub(crate) fn ratio(&self) -> Option<f64> {
        (self.clicks > 0.0).then(|| self.expected / self.clicks)
    }
}

fn chance(logit: f32) -> f64 {
    f64::from(attune_inference::sigmoid(logit))
}

/// Area under the curve; `points` ascending by score. Ties count half. None where all labels are the same.
fn auc(points: &[(f32, f32)]) -> Option<f64> {
    let hits: f64 = points.iter().map(|p| f64::from(p.1)).sum();
    let misses = points.len() as f64 - hits;
    let (mut sum, mut below, mut at) = (0.0, 0.0, 0);
    while at < points.len() {
        let ties = points[at..].iter().take_while(|p| p.0 == points[at].0).count();
        let up: f64 = points[at..at + ties].iter().map(|p| f64::from(p.1)).sum();
        sum += up * (below + (ties as f64 - up) / 2.0);
        below += ties as f64 - up;
        at += ties;
    }
    (hits > 0.0 && misses > 0.0).then(|| sum / (hits * misses))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_counts_ties_half() {
        assert_eq!(auc(&[(0.1, 0.0), (0.2, 1.0)]), Some(1.0));
        assert_eq!(auc(&[(0.1, 1.0), (0.2, 0.0)]), Some(0.0));
        assert_eq!(auc(&[(0.1, 1.0), (0.1, 0.0)]), Some(0.5));
        assert_eq!(auc(&[(0.1, 1.0)]), None);
    }

    /// Slates of 20 whose items have logit `taste` in the first slot, and are looked at less further down, as the
    /// simulated world's are: at each place, that share of rows is clicked. The head sees `2 * taste - 1`.
    fn slates() -> Vec<Judged> {
        let mut rows = Vec::new();
        for step in -8..=0 {
            let taste = f64::from(step) * 0.5;
            for slot in 0..20u8 {
                let p = 1.0 / (1.0 + (-taste).exp()) / (1.0 + 0.1 * f64::from(slot));
                rows.extend((0..200).map(|i| Judged {
                    logit: (2.0 * taste - 1.0) as f32,
                    position: attune_inference::ln_1p(f32::from(slot)),
                    clicked: (f64::from(i) + 0.5) / 200.0 < p,
                }));
            }
        }
        rows
    }

    #[test]
    fn the_first_slot_is_found_among_all() {
        let rows = slates();
        let found = Correction::of_impressions(&rows, &rows).unwrap();
        assert!((found.slope - 0.5).abs() < 0.1, "{found:?}");
        assert!((-0.7..-0.3).contains(&found.position), "{found:?}");
        let corrected =
            |row: &Judged| Judged { logit: (found.slope * f64::from(row.logit) + found.intercept) as f32, ..*row };
        let first = FirstSlot::of(&rows.iter().map(corrected).collect::<Vec<_>>());
        assert!(first.holds() && (first.ratio().unwrap() - 1.0).abs() < 0.1, "{first:?}");
        assert!(!FirstSlot::of(&rows).holds());
        assert_eq!(Correction::of_impressions(&rows[..3], &rows), None);
        assert_eq!(Correction::of_impressions(&rows, &rows[..3]), None);
    }

    #[test]
    fn a_level_is_found_without_slots() {
        let found = Correction::of_level(&slates()).unwrap();
        assert!(found.slope == 1.0 && found.intercept > 0.2, "{found:?}");
        assert_eq!(Correction::of_level(&[]), None);
    }

    #[test]
    fn calibration_is_claimed_only_of_what_was_checked() {
        let first = |rows: u64, clicks: u64| {
            let row = |i| Judged { logit: -1.098_612_3, position: 0.0, clicked: i < clicks };
            FirstSlot::of(&(0..rows).map(row).collect::<Vec<_>>())
        };
        // A quarter is expected to be clicked.
        for (rows, clicks, holds) in [
            (0, 0, false),
            (40, 10, false),
            (60, 15, true),
            (60, 21, true),
            (60, 22, false),
            (60, 9, true),
            (60, 8, false),
            (100_000, 25_000, true),
            (100_000, 23_000, true),
            (100_000, 22_000, false),
        ] {
            assert_eq!(first(rows, clicks).holds(), holds, "{clicks} of {rows}");
        }
        let below = Judged { logit: 0.0, position: 0.7, clicked: true };
        assert_eq!(FirstSlot::of(&[below]), FirstSlot::default());
    }
}
