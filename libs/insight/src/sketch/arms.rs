//! Reward missed against the best arm, from logged propensities.

use super::moments::Moments;
use super::{Sketch, TREE_ENTRY, spread};
use crate::estimate::{Estimate, T_63, Z, normal_quantile, wilson};
use crate::event::{Decided, Posterior, SlotKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An arm with fewer effective pulls says nothing of the best arm; half as many in each half.
const LEAST_PULLS: f64 = 50.0;
/// Weights in fixed point with 20 fractional bits: 1/p up to 1e6, its square up to 1e12.
const UNIT: f64 = (1u64 << 20) as f64;

const SHOWN: usize = 0;
const REWARDED: usize = 1;
const THOMPSON: usize = 2;
const RANDOM: usize = 3;

/// Weighted sums of one arm's uniform slots, in one half of the visitors. 64 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Arm {
    pulls: u64,
    weight: i128,
    squares: i128,
    reward: i128,
}

/// At most 256 arms in two halves, and 4 columns: 37 kB.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arms {
    rates: Moments<4>,
    arms: BTreeMap<u8, [Arm; 2]>,
}

fn weight(decided: &Decided) -> f64 {
    let propensity = decided.propensity.filter(|p| *p > 0.0 && *p <= 1.0).unwrap_or(1.0);
    1.0 / f64::from(propensity).max(1e-6)
}

impl Arms {
    pub(crate) fn shown(&mut self, decided: &Decided) {
        self.rates.add(decided.visitor, SHOWN, 1);
        match decided.kind {
            SlotKind::Exploit => {}
            SlotKind::Explore => self.rates.add(decided.visitor, THOMPSON, 1),
            SlotKind::Uniform => {
                self.rates.add(decided.visitor, RANDOM, 1);
                let (arm, w) = (self.arm(decided), weight(decided));
                arm.pulls += 1;
                arm.weight += (w * UNIT).round() as i128;
                arm.squares += (w * w * UNIT).round() as i128;
            }
        }
    }

    pub(crate) fn rewarded(&mut self, decided: &Decided) {
        self.rates.add(decided.visitor, REWARDED, 1);
        if decided.kind == SlotKind::Uniform {
            self.arm(decided).reward += (weight(decided) * UNIT).round() as i128;
        }
    }

    fn arm(&mut self, decided: &Decided) -> &mut Arm {
        &mut self.arms.entry(decided.arm).or_default()[half(decided.visitor)]
    }

    /// Shares of slots that explore: by Thompson sampling, by uniform drawing, and both.
    pub(crate) fn exploration(&self) -> [Estimate; 3] {
        let mut both = Moments::<2>::default();
        for group in 0..super::moments::GROUPS {
            if let &[shown, _, thompson, random] = self.rates.group(group) {
                both.add_to_group(group, [shown, thompson + random]);
            }
        }
        [self.rates.share(THOMPSON, SHOWN), self.rates.share(RANDOM, SHOWN), both.share(1, 0)]
    }

    /// `(max over arms of V_a - V) / max`: `V_a = sum w r / sum w` over the uniform slots of arm a, `w = 1 / propensity`
    /// (self-normalised inverse propensities: Swaminathan and Joachims, NeurIPS 2015), V the mean reward of all slots.
    /// Samples are uniform slots.
    ///
    /// A maximum of noisy numbers is too high, so the lower end is the number to alert on. It is a lower bound of the
    /// value of arms that were chosen on other visitors than they are judged on: each half of the visitors names its
    /// best arm, the other half tells what that arm is worth, and no arm is worth more than the best. The upper end
    /// takes the largest of the arms' upper bounds, each after Bonferroni.
    pub(crate) fn regret(&self) -> Estimate {
        let Some(actual) = self.rates.ratio(REWARDED, SHOWN) else { return Estimate::ABSENT };
        let both = self.arms.values().map(|halves| {
            let mut arm = halves[0];
            arm.merge(&halves[1]);
            arm
        });
        let known: Vec<(f64, f64)> = both.clone().filter_map(|arm| arm.value(LEAST_PULLS)).collect();
        let z = normal_quantile(0.025 / known.len().max(1) as f64);
        let (mut best, mut high) = (f64::NAN, f64::NAN);
        for (value, pulls) in known {
            (best, high) = (best.max(value), high.max(wilson(value, pulls, z).1));
        }
        let low = self.crossed().map_or(0.0, |(value, pulls)| wilson(value, pulls, Z).0);
        let half = T_63 * actual.error;
        // Below -1 lies only what says nothing, an arm of which next to nothing is known.
        let missed = |best: f64, actual: f64| (1.0 - actual / best.max(1e-12)).clamp(-1.0, 1.0);
        Estimate::new(
            missed(best, actual.value),
            missed(low, actual.value + half),
            missed(high, actual.value - half),
            both.map(|arm| arm.pulls).sum(),
        )
    }

    /// Mean of what each half says of the other half's best arm, and as many pulls as would be as sure.
    fn crossed(&self) -> Option<(f64, f64)> {
        let judged = |judge: usize| {
            let values = self.arms.values().filter_map(|halves| {
                let chosen = halves[1 - judge].value(LEAST_PULLS / 2.0)?;
                Some((chosen.0, halves[judge].value(LEAST_PULLS / 2.0)?))
            });
            values.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, judged)| judged)
        };
        let ((a, a_pulls), (b, b_pulls)) = (judged(0)?, judged(1)?);
        let value = (a + b) / 2.0;
        let variance = (a * (1.0 - a) / a_pulls + b * (1.0 - b) / b_pulls) / 4.0;
        let pulls = value * (1.0 - value) / variance;
        Some((value, if pulls.is_finite() { pulls.min(a_pulls + b_pulls) } else { a_pulls + b_pulls }))
    }
}

fn half(visitor: u64) -> usize {
    (spread(visitor) & 1) as usize
}

impl Arm {
    fn merge(&mut self, other: &Self) {
        self.pulls += other.pulls;
        self.weight += other.weight;
        self.squares += other.squares;
        self.reward += other.reward;
    }

    /// The value and as many equally weighted pulls as would be as sure: `(sum w)^2 / sum w^2` (Kish 1965).
    fn value(&self, least: f64) -> Option<(f64, f64)> {
        let (weight, squares) = (self.weight as f64 / UNIT, self.squares as f64 / UNIT);
        let pulls = weight * weight / squares;
        (pulls >= least).then(|| ((self.reward as f64 / UNIT / weight).clamp(0.0, 1.0), pulls))
    }
}

impl Sketch for Arms {
    fn merge(&mut self, other: &Self) {
        self.rates.merge(&other.rates);
        for (&key, halves) in &other.arms {
            let mine = self.arms.entry(key).or_default();
            mine.iter_mut().zip(halves).for_each(|(arm, more)| arm.merge(more));
        }
    }

    fn heap_bytes(&self) -> usize {
        self.rates.heap_bytes() + self.arms.len() * (size_of::<(u8, [Arm; 2])>() + TREE_ENTRY)
    }
}

/// What the posteriors say of the same, and how unsure they are.
pub(crate) struct Belief {
    pub(crate) regret: Estimate,
    /// Mean standard deviation of the items of each arm.
    pub(crate) uncertainty: BTreeMap<u8, Estimate>,
}

#[derive(Default)]
struct Believed {
    n: u64,
    means: f64,
    deviations: f64,
    variances: f64,
}

/// Value of an arm: mean of its items' posterior means, as a uniform pull would earn. Value of the policy: the means
/// weighted by impressions. The interval is the best arm's posterior spread; the error that matters, believing an arm
/// bad that was not tried again, is in none of these numbers.
pub(crate) fn belief(posteriors: &[Posterior]) -> Belief {
    let mut arms: BTreeMap<u8, Believed> = BTreeMap::new();
    let (mut impressions, mut earned) = (0.0, 0.0);
    for p in posteriors {
        let (a, b) = (f64::from(p.alpha), f64::from(p.beta));
        if !(a > 0.0 && b > 0.0 && a.is_finite() && b.is_finite()) {
            continue;
        }
        let (mean, variance) = (a / (a + b), a * b / ((a + b) * (a + b) * (a + b + 1.0)));
        let arm = arms.entry(p.arm).or_default();
        arm.n += 1;
        arm.means += mean;
        arm.deviations += variance.sqrt();
        arm.variances += variance;
        let weight = f64::from(p.impressions.max(0.0));
        impressions += weight;
        earned += weight * mean;
    }
    let value = |arm: &Believed| arm.means / arm.n as f64;
    let regret = arms.values().max_by(|a, b| value(a).total_cmp(&value(b))).map_or(Estimate::ABSENT, |arm| {
        let (best, actual) = (value(arm), earned / impressions);
        let error = arm.variances.sqrt() / arm.n as f64;
        Estimate::around((best - actual) / best, Z * error * actual / (best * best), impressions as u64)
    });
    let uncertainty = arms.iter().map(|(&key, arm)| {
        let (n, mean) = (arm.n as f64, arm.deviations / arm.n as f64);
        let spread = (arm.variances / n - mean * mean).max(0.0);
        (key, Estimate::around(mean, Z * (spread / n).sqrt(), arm.n))
    });
    Belief { regret, uncertainty: uncertainty.collect() }
}
