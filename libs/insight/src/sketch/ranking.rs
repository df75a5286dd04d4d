//! How good the order of slates is, whatever the place does to clicks.

use super::calibration::Calibration;
use super::log_histogram::LogHistogram;
use super::moments::{GROUPS, Moments};
use super::{Sketch, UNIT, fixed};
use crate::estimate::{Estimate, T_63};
use crate::event::Decided;
use serde::{Deserialize, Serialize};

/// Slots that NDCG@10 looks at.
pub(crate) const DEPTH: usize = 10;
/// Examination below a fiftieth of the first slot's would make one click worth fifty.
const LEAST_EXAMINED: f64 = 0.02;
/// Clicks on uniform slots without which there is no curve.
const LEAST_CLICKS: i64 = 50;

const SCORES: usize = DEPTH;
const IDEAL: usize = DEPTH + 1;
const REQUESTS: usize = DEPTH + 2;
const SHOWN: usize = DEPTH + 3;

/// Shows, then clicks, of uniform slots by position: 10 kB.
pub(crate) type Examination = Moments<{ 2 * DEPTH }>;

/// One model version: 7 kB of sums and at most 90 kB of histograms; usually 15 kB.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Model {
    pub(crate) calibration: Calibration,
    /// Scores of first slots.
    pub(crate) top: LogHistogram,
    slots: Moments<{ DEPTH + 4 }>,
}

fn discount(position: usize) -> f64 {
    1.0 / (position as f64 + 2.0).log2()
}

impl Model {
    pub(crate) fn shown(&mut self, decided: &Decided, score: f32) {
        self.calibration.shown(score);
        let visitor = decided.visitor;
        if decided.position == 0 {
            self.top.add(score);
            self.slots.add(visitor, REQUESTS, 1);
        }
        let score = f64::from(score);
        if usize::from(decided.position) < DEPTH {
            self.slots.add(visitor, SHOWN, 1);
            self.slots.add(visitor, SCORES, fixed(score));
        }
        if usize::from(decided.ideal_position) < DEPTH {
            self.slots.add(visitor, IDEAL, fixed(score * discount(decided.ideal_position.into())));
        }
    }

    pub(crate) fn clicked(&mut self, decided: &Decided, score: f32) {
        self.calibration.clicked(score);
        if usize::from(decided.position) < DEPTH {
            self.slots.add(decided.visitor, decided.position.into(), 1);
        }
    }

    /// NDCG@10 and DCG@10 a request, corrected for the position.
    ///
    /// `DCG = sum over clicks of d_k / theta_k`, `d_k = 1 / log2(k + 2)`, theta the probability that slot k is examined
    /// relative to the first ([`curve`]): unbiased for the relevance of what was shown (Joachims, Swaminathan and
    /// Schnabel, WSDM 2017). The ideal is the same sum over scores in their own order, times the one factor that makes
    /// their total that of the corrected clicks, so that scores need to be right in proportion only.
    /// Compare versions on DCG: a normalised one can put them in the wrong order (Jeunen et al., KDD 2024).
    /// Intervals by leaving out one group of visitors after the other (jackknife), curve included.
    pub(crate) fn ndcg(&self, examination: &Examination) -> [Estimate; 2] {
        let (clicks, shows) = (self.slots.sums(), examination.sums());
        let Some(whole) = gains(&clicks, &shows) else { return [Estimate::ABSENT; 2] };
        let mut without = Vec::with_capacity(GROUPS);
        for group in 0..GROUPS {
            if let Some(part) = gains(&less(clicks, self.slots.group(group)), &less(shows, examination.group(group))) {
                without.push(part);
            }
        }
        [0, 1].map(|which| {
            let n = without.len() as f64;
            let mean = without.iter().map(|part| part[which]).sum::<f64>() / n;
            let squares: f64 = without.iter().map(|part| (part[which] - mean).powi(2)).sum();
            let error = (squares * (n - 1.0) / n).sqrt();
            Estimate::around(whole[which], T_63 * error, clicks[SHOWN] as u64)
        })
    }
}

fn less<const W: usize>(mut sums: [i64; W], group: &[i64]) -> [i64; W] {
    sums.iter_mut().zip(group).for_each(|(sum, part)| *sum -= part);
    sums
}

fn gains(clicks: &[i64; DEPTH + 4], uniform: &[i64; 2 * DEPTH]) -> Option<[f64; 2]> {
    let curve = curve(uniform)?;
    let (mut relevance, mut gain) = (0.0, 0.0);
    for (position, examined) in curve.iter().enumerate() {
        let relevant = clicks[position] as f64 / examined;
        relevance += relevant;
        gain += relevant * discount(position);
    }
    let (scores, ideal) = (clicks[SCORES] as f64 / UNIT, clicks[IDEAL] as f64 / UNIT);
    let known = ideal > 0.0 && relevance > 0.0 && clicks[REQUESTS] > 0;
    known.then(|| [gain / (ideal * relevance / scores), gain / clicks[REQUESTS] as f64])
}

/// Probability that each slot is examined, relative to the first. A uniform slot's item does not depend on its place,
/// so its clicks fall with the place as examination does; the rates are made to fall monotonically (pool adjacent
/// violators: Ayer et al., 1955), weighted by their shows.
fn curve(uniform: &[i64; 2 * DEPTH]) -> Option<[f64; DEPTH]> {
    let (shows, clicks) = uniform.split_at(DEPTH);
    if clicks.iter().sum::<i64>() < LEAST_CLICKS {
        return None;
    }
    // Clicks, shows, and slots of each level of the curve.
    let mut levels: Vec<(f64, f64, usize)> = Vec::with_capacity(DEPTH);
    for (&shows, &clicks) in shows.iter().zip(clicks) {
        levels.push((clicks as f64, shows as f64, 1));
        while let [.., a, b] = levels[..] {
            if b.1 > 0.0 && b.0 * a.1 <= a.0 * b.1 {
                break;
            }
            levels.truncate(levels.len() - 2);
            levels.push((a.0 + b.0, a.1 + b.1, a.2 + b.2));
        }
    }
    let rates = levels.iter().flat_map(|&(clicks, shows, slots)| std::iter::repeat_n(clicks / shows, slots));
    let mut curve = [0.0; DEPTH];
    curve.iter_mut().zip(rates).for_each(|(examined, rate)| *examined = rate);
    let first = curve[0];
    (first > 0.0).then(|| curve.map(|rate| (rate / first).max(LEAST_EXAMINED)))
}

pub(crate) fn examined(sketch: &mut Examination, decided: &Decided, column: Column) {
    let position = usize::from(decided.position);
    if position < DEPTH {
        sketch.add(decided.visitor, position + column as usize, 1);
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    Shown = 0,
    Clicked = DEPTH as isize,
}

impl Sketch for Model {
    fn merge(&mut self, other: &Self) {
        self.calibration.merge(&other.calibration);
        self.top.merge(&other.top);
        self.slots.merge(&other.slots);
    }

    fn heap_bytes(&self) -> usize {
        self.calibration.heap_bytes() + self.top.heap_bytes() + self.slots.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_falls_and_starts_at_one() {
        let mut uniform = [1000; 2 * DEPTH];
        uniform[DEPTH..].copy_from_slice(&[100, 60, 70, 40, 40, 20, 0, 10, 0, 0]);
        uniform[9] = 0;
        let curve = curve(&uniform).unwrap();
        for (examined, expected) in curve.iter().zip([1.0, 0.65, 0.65, 0.4, 0.4, 0.2]) {
            assert!((examined - expected).abs() < 1e-9, "{curve:?}");
        }
        assert!(curve.windows(2).all(|pair| pair[0] >= pair[1]), "{curve:?}");
        assert_eq!(curve[9], LEAST_EXAMINED);
        assert_eq!(super::curve(&[1; 2 * DEPTH]), None);
    }
}
