//! The two arms of the experiment, and what the treatment is worth.
//!
//! Slots of one visitor are alike, so the interval takes visitors, not slots, as the independent units.

use serde::Serialize;

/// Visitors an arm must have before an interval is told.
const LEAST_VISITORS: usize = 10;
/// Of a two-sided 95 % normal interval.
const Z: f64 = 1.959_964;

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Arm {
    pub visitors: usize,
    pub impressions: u64,
    pub clicks: u64,
    pub conversions: u64,
    /// Clicks per shown slot; none without a slot.
    pub ctr: Option<f64>,
    /// Clicks per shown slot that the world's truth expects; free of the chance in clicking.
    pub expected_ctr: Option<f64>,
}

/// Ratio of the arms' click rates, less one, with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Lift {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// What one visitor did in one arm.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) impressions: u64,
    pub(crate) clicks: u64,
    pub(crate) conversions: u64,
    pub(crate) expected: f64,
}

pub(crate) fn arm(counts: &[Count]) -> Arm {
    let mut arm = Arm::default();
    let mut expected = 0.0;
    for count in counts.iter().filter(|c| c.impressions > 0) {
        arm.visitors += 1;
        arm.impressions += count.impressions;
        arm.clicks += count.clicks;
        arm.conversions += count.conversions;
        expected += count.expected;
    }
    if arm.impressions > 0 {
        arm.ctr = Some(arm.clicks as f64 / arm.impressions as f64);
        arm.expected_ctr = Some(expected / arm.impressions as f64);
    }
    arm
}

/// The lift, or why there is none yet.
pub(crate) fn lift(treatment: &[Count], holdout: &[Count]) -> Result<Lift, String> {
    let (rate_t, variance_t) = log_rate(treatment, "treatment")?;
    let (rate_h, variance_h) = log_rate(holdout, "holdout")?;
    let ratio = rate_t - rate_h;
    let half = Z * (variance_t + variance_h).sqrt();
    let lift = |log: f64| log.exp() - 1.0;
    Ok(Lift { value: lift(ratio), low: lift(ratio - half), high: lift(ratio + half) })
}

/// Logarithm of the click rate and the variance of that, by the delta method over visitors.
fn log_rate(counts: &[Count], name: &str) -> Result<(f64, f64), String> {
    let arm = arm(counts);
    if arm.visitors < LEAST_VISITORS {
        return Err(format!("{} visitors in the {name} arm, {LEAST_VISITORS} are needed", arm.visitors));
    }
    let Some(rate) = arm.ctr.filter(|&ctr| ctr > 0.0) else {
        return Err(format!("no click in the {name} arm"));
    };
    let n = arm.visitors as f64;
    let squares: f64 = counts
        .iter()
        .filter(|c| c.impressions > 0)
        .map(|c| (c.clicks as f64 - rate * c.impressions as f64).powi(2))
        .sum();
    let variance = n / (n - 1.0) * squares / (arm.impressions as f64).powi(2);
    Ok((rate.ln(), variance / (rate * rate)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    fn draw(rng: &mut ChaCha8Rng, visitors: usize, rate: f64) -> Vec<Count> {
        let one = |rng: &mut ChaCha8Rng| {
            // Visitors differ, so that slots of one visitor are not independent.
            let own = rate * rng.random_range(0.2..1.8);
            let impressions = 20 * rng.random_range(1..12u64);
            let clicks = (0..impressions).filter(|_| rng.random_bool(own)).count() as u64;
            Count { impressions, clicks, conversions: 0, expected: own * impressions as f64 }
        };
        (0..visitors).map(|_| one(rng)).collect()
    }

    #[test]
    fn the_interval_covers_the_true_lift_about_as_often_as_it_says() {
        let rng = &mut ChaCha8Rng::seed_from_u64(7);
        let trials = 1000;
        let covered = (0..trials)
            .filter(|_| {
                let lift = lift(&draw(rng, 300, 0.15), &draw(rng, 40, 0.10)).unwrap();
                (lift.low..=lift.high).contains(&0.5)
            })
            .count();
        let share = covered as f64 / f64::from(trials);
        assert!((0.91..=0.98).contains(&share), "covered {share}");
    }

    #[test]
    fn too_little_is_said_not_guessed() {
        let rng = &mut ChaCha8Rng::seed_from_u64(7);
        let many = draw(rng, 50, 0.1);
        assert!(lift(&many, &[]).unwrap_err().contains("0 visitors in the holdout arm"));
        let still = vec![Count { impressions: 20, ..Count::default() }; 20];
        assert!(lift(&many, &still).unwrap_err().contains("no click in the holdout"));
        assert_eq!(arm(&[Count::default()]), Arm::default());
    }
}
