//! Which traces are kept: one consistent threshold for a trace, fixed by its class when it ends.
//!
//! A trace is kept iff `R >= T(class)`, with R the low 56 bits of its id. Every service that sees the same id and class
//! decides alike, and every kept span carries its final threshold, so that counts can be weighted without bias.

use std::fmt;

/// What a local trace turned out to be; the first that fits, from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Error,
    Forced,
    Slow,
    Llm,
    Normal,
    /// Ended at the edge without asking anyone.
    EdgeOnly,
}

impl Class {
    pub const ALL: [Self; 6] = [Self::Error, Self::Forced, Self::Slow, Self::Llm, Self::Normal, Self::EdgeOnly];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Forced => "forced",
            Self::Slow => "slow",
            Self::Llm => "llm",
            Self::Normal => "normal",
            Self::EdgeOnly => "edge_only",
        }
    }

    /// The bit that says this class in a verdict; none for the sampled classes.
    pub(crate) const fn bit(self) -> u8 {
        match self {
            Self::Error => 8,
            Self::Forced => 4,
            Self::Slow => 2,
            Self::Llm => 1,
            Self::Normal | Self::EdgeOnly => 0,
        }
    }

    /// The strongest class among the bits.
    pub(crate) fn of_bits(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.bit() & bits != 0)
    }
}

/// Spans are kept when the trace's 56 random bits reach this; 2^56 keeps nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(u64);

impl Threshold {
    pub const ALWAYS: Self = Self(0);

    /// The share of traces to keep, rounded to 24 bits (as `fd70a4` for 1 % and `ffbe77` for 0.1 %).
    pub fn of_share(share: f64) -> Self {
        let share = share.clamp(0.0, 1.0);
        Self((((1.0 - share) * f64::from(1u32 << 24)).round() as u64) << 32)
    }

    pub fn keeps(self, randomness: u64) -> bool {
        randomness >= self.0
    }

    /// How many traces a kept one stands for.
    pub fn weight(self) -> f64 {
        const ALL: f64 = (1u64 << 56) as f64;
        ALL / (ALL - self.0 as f64)
    }

    /// One to fourteen lower-case hexadecimal digits, trailing zeros left out.
    pub fn parse(digits: &str) -> Option<Self> {
        let fits = (1..=14).contains(&digits.len());
        if !fits || !digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        let value = u64::from_str_radix(digits, 16).ok()?;
        Some(Self(value << (4 * (14 - digits.len()))))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:014x}", self.0);
        let kept = digits.trim_end_matches('0');
        f.write_str(if kept.is_empty() { "0" } else { kept })
    }
}

/// The thresholds of the sampled classes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) normal: Threshold,
    pub(crate) edge_only: Threshold,
}

/// What becomes of a local trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) class: Class,
    pub(crate) threshold: Threshold,
    pub(crate) keep: bool,
}

impl Policy {
    /// `caller` is the threshold under which the caller already keeps the trace, if its sampled bit said so.
    pub(crate) fn decide(&self, class: Class, randomness: u64, caller: Option<Threshold>) -> Verdict {
        let own = match class {
            Class::Error | Class::Forced | Class::Slow | Class::Llm => Threshold::ALWAYS,
            Class::Normal => self.normal,
            Class::EdgeOnly => self.edge_only,
        };
        let threshold = caller.map_or(own, |caller| caller.min(own));
        Verdict { class, threshold, keep: threshold.keeps(randomness) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_the_published_ones() {
        let one_percent = Threshold::of_share(0.01);
        let one_permille = Threshold::of_share(0.001);
        assert_eq!(one_percent.to_string(), "fd70a4");
        assert_eq!(one_permille.to_string(), "ffbe77");
        assert!((one_percent.weight() - 100.0001).abs() < 1e-3);
        assert!((one_permille.weight() - 1000.013).abs() < 1e-2);
        assert_eq!(Threshold::of_share(1.0), Threshold::ALWAYS);
        assert_eq!(Threshold::ALWAYS.to_string(), "0");
        assert!(!Threshold::of_share(0.0).keeps((1 << 56) - 1));
        for text in ["0", "8", "fd70a4", "ffbe77", "00000000000001"] {
            assert_eq!(Threshold::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "FD", "0x1", "000000000000001", "+1", "g"] {
            assert_eq!(Threshold::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_caller_that_keeps_makes_us_keep() {
        let policy = Policy { normal: Threshold::of_share(0.01), edge_only: Threshold::of_share(0.001) };
        assert!(!policy.decide(Class::Normal, 0, None).keep);
        let promoted = policy.decide(Class::Normal, 0, Some(Threshold::ALWAYS));
        assert!(promoted.keep);
        assert_eq!(promoted.threshold, Threshold::ALWAYS);
        let failed = policy.decide(Class::Error, 0, Some(Threshold::of_share(0.01)));
        assert!(failed.keep);
        assert_eq!(failed.threshold, Threshold::ALWAYS);
    }
}
