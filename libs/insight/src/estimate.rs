//! A number with its 95 % interval and the observations behind it.

/// Two-sided 95 % quantiles: of the normal, and of Student's t for the two numbers of groups in use.
pub(crate) const Z: f64 = 1.959_964;
pub(crate) const T_63: f64 = 1.998_341;
pub(crate) const T_15: f64 = 2.131_450;

/// What is known of a quantity. `value`, `low` and `high` are NaN exactly when `samples` is 0: there is no value then,
/// and `low <= value <= high` otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Estimate {
    pub value: f64,
    /// Ends of the 95 % interval.
    pub low: f64,
    pub high: f64,
    /// Observations behind the value; the catalogue says how many make it worth showing.
    pub samples: u64,
}

impl Estimate {
    pub const ABSENT: Self = Self { value: f64::NAN, low: f64::NAN, high: f64::NAN, samples: 0 };

    pub fn is_known(&self) -> bool {
        self.samples > 0
    }

    pub fn contains(&self, truth: f64) -> bool {
        self.low <= truth && truth <= self.high
    }

    /// Absent where a number is not finite. The value is taken into the interval, whose centre may be a corrected one.
    pub(crate) fn new(value: f64, low: f64, high: f64, samples: u64) -> Self {
        if samples == 0 || ![value, low, high].iter().all(|v| v.is_finite()) {
            return Self::ABSENT;
        }
        Self { value, low: low.min(value), high: high.max(value), samples }
    }

    pub(crate) fn exact(value: f64, samples: u64) -> Self {
        Self::new(value, value, value, samples)
    }

    /// `value +- half`.
    pub(crate) fn around(value: f64, half: f64, samples: u64) -> Self {
        Self::new(value, value - half, value + half, samples)
    }

    /// A share of `effective` independent observations: Wilson's score interval (JASA 1927), which stays within 0 and 1
    /// and has a width at 0 and 1 too.
    pub(crate) fn share(share: f64, effective: f64, quantile: f64, samples: u64) -> Self {
        let (low, high) = wilson(share, effective, quantile);
        Self::new(share, low, high, samples)
    }

    pub(crate) fn clamp(self, low: f64, high: f64) -> Self {
        Self::new(self.value.clamp(low, high), self.low.clamp(low, high), self.high.clamp(low, high), self.samples)
    }
}

/// Equal bit for bit, so that absent equals absent.
impl PartialEq for Estimate {
    fn eq(&self, other: &Self) -> bool {
        let bits = |e: &Self| [e.value.to_bits(), e.low.to_bits(), e.high.to_bits(), e.samples];
        bits(self) == bits(other)
    }
}

pub(crate) fn wilson(share: f64, n: f64, z: f64) -> (f64, f64) {
    let zz = z * z / n;
    let centre = (share + zz / 2.0) / (1.0 + zz);
    let half = z / (1.0 + zz) * (share * (1.0 - share) / n + zz / (4.0 * n)).max(0.0).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Upper quantile of the standard normal: `P(X > x) = tail` for tails below a half (Abramowitz and Stegun 26.2.23,
/// within 4.5e-4).
pub(crate) fn normal_quantile(tail: f64) -> f64 {
    let t = (-2.0 * tail.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    t - above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_wilson_match_the_tables() {
        assert!((normal_quantile(0.025) - Z).abs() < 5e-4);
        assert!((normal_quantile(0.001) - 3.0902).abs() < 5e-4);
        let (low, high) = wilson(0.1, 100.0, Z);
        assert!((low - 0.0552).abs() < 1e-4 && (high - 0.1744).abs() < 1e-4, "{low} {high}");
        assert!(wilson(0.0, 50.0, Z).1 > 0.05);
    }

    #[test]
    fn nothing_known_is_absent() {
        assert_eq!(Estimate::new(f64::NAN, 0.0, 1.0, 9), Estimate::ABSENT);
        assert!(!Estimate::exact(1.0, 0).is_known());
        assert!(Estimate::around(1.0, 0.5, 3).contains(1.4));
    }
}
