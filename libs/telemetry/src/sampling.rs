//! Which traces are kept: one consistent threshold for a trace, fixed by its class when it ends.
//!
//! A trace is kept iff `R >= T`, with R the low 56 bits of its id and T the smallest of the thresholds that were applied to
//! it: that of its base class, and that of each promotion. Every process evaluates the same function of (R, T), and every
//! kept span carries its final T, so that counts weighted by it are unbiased.
//! That rests on one invariant: no threshold is ever chosen in the light of the R that it is held against.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a trace turned out to be; the first that fits, from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Error,
    Forced,
    Slow,
    Llm,
    /// A fallback was served. One a second for each service and reason is promoted, the others are normal ones.
    Degraded,
    Normal,
    /// Ended at the edge without asking anyone.
    EdgeOnly,
}

impl Class {
    pub const ALL: [Self; 7] =
        [Self::Error, Self::Forced, Self::Slow, Self::Llm, Self::Degraded, Self::Normal, Self::EdgeOnly];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Forced => "forced",
            Self::Slow => "slow",
            Self::Llm => "llm",
            Self::Degraded => "degraded",
            Self::Normal => "normal",
            Self::EdgeOnly => "edge_only",
        }
    }

    /// The bit that says this class in a verdict; none for the sampled classes.
    pub(crate) const fn bit(self) -> u8 {
        match self {
            Self::Degraded => 16,
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
    pub const NEVER: Self = Self(1 << 56);

    /// The share of traces to keep, rounded to 24 bits (as `fd70a4` for 1 % and `ffbe77` for 0.1 %).
    pub fn of_share(share: f64) -> Self {
        let share = share.clamp(0.0, 1.0);
        Self((((1.0 - share) * f64::from(1u32 << 24)).round() as u64) << 32)
    }

    /// Up to 2^56.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits <= Self::NEVER.0).then_some(Self(bits))
    }

    pub fn bits(self) -> u64 {
        self.0
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

/// What is known of a trace beyond its base class: the smallest threshold of any promotion, and all their reasons.
///
/// Merging is commutative, associative and idempotent, so that it does not matter how often, in which order or over
/// which way (headers, flags, bus) verdicts arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub threshold: Threshold,
    /// [`Class`] bits.
    pub reasons: u8,
}

impl Verdict {
    pub const NONE: Self = Self { threshold: Threshold::NEVER, reasons: 0 };
    pub(crate) const ALL_REASONS: u8 = 31;

    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self { threshold: self.threshold.min(other.threshold), reasons: self.reasons | other.reasons }
    }
}

/// A verdict that several threads may add to.
#[derive(Debug)]
pub(crate) struct SharedVerdict(AtomicU64);

impl SharedVerdict {
    pub(crate) fn new(verdict: Verdict) -> Self {
        Self(AtomicU64::new(pack(verdict)))
    }

    pub(crate) fn get(&self) -> Verdict {
        unpack(self.0.load(Relaxed))
    }

    /// What it was before.
    pub(crate) fn merge(&self, verdict: Verdict) -> Verdict {
        let merged = |now| Some(pack(unpack(now).merge(verdict))).filter(|then| *then != now);
        let (Ok(before) | Err(before)) = self.0.fetch_update(Relaxed, Relaxed, merged);
        unpack(before)
    }
}

/// A threshold needs 57 bits, the reasons five.
fn pack(verdict: Verdict) -> u64 {
    verdict.threshold.0 | u64::from(verdict.reasons & Verdict::ALL_REASONS) << 57
}

fn unpack(packed: u64) -> Verdict {
    Verdict { threshold: Threshold(packed & ((1 << 57) - 1)), reasons: (packed >> 57) as u8 }
}

/// The thresholds of the base classes.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub normal: Threshold,
    pub edge_only: Threshold,
}

/// What a trace is before anything promotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    Normal,
    EdgeOnly,
}

/// What becomes of a local trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub class: Class,
    pub threshold: Threshold,
    pub keep: bool,
}

impl Policy {
    /// Whether the head, before anything is known, takes the trace for one that will be kept.
    pub fn head(&self, randomness: u64) -> bool {
        self.normal.keeps(randomness)
    }

    /// The last word, once nothing more can be learned. `floor` is the threshold under which the local trace was
    /// recorded at all: its spans cannot stand for less.
    pub fn settle(&self, base: Base, verdict: Verdict, floor: Threshold, randomness: u64) -> Outcome {
        let (class, own) = match base {
            Base::Normal => (Class::Normal, self.normal),
            Base::EdgeOnly => (Class::EdgeOnly, self.edge_only),
        };
        let threshold = own.min(verdict.threshold).max(floor);
        let class = Class::of_bits(verdict.reasons).unwrap_or(class);
        Outcome { class, threshold, keep: threshold.keeps(randomness) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn the_smallest_threshold_decides() {
        let policy = Policy { normal: Threshold::of_share(0.01), edge_only: Threshold::of_share(0.001) };
        let settle = |base, verdict, floor| policy.settle(base, verdict, floor, 0);
        assert!(!settle(Base::Normal, Verdict::NONE, Threshold::ALWAYS).keep);
        let failed = Verdict { threshold: Threshold::ALWAYS, reasons: Class::Error.bit() | Class::Llm.bit() };
        let kept = Outcome { class: Class::Error, threshold: Threshold::ALWAYS, keep: true };
        assert_eq!(settle(Base::EdgeOnly, failed, Threshold::ALWAYS), kept);
        // What was recorded only for one in a hundred stands for a hundred, whatever it became.
        let floored = Outcome { threshold: policy.normal, keep: false, ..kept };
        assert_eq!(settle(Base::Normal, failed, policy.normal), floored);
        let last = policy.settle(Base::EdgeOnly, Verdict::NONE, Threshold::ALWAYS, (1 << 56) - 1);
        assert_eq!(last, Outcome { class: Class::EdgeOnly, threshold: policy.edge_only, keep: true });
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        let threshold = prop_oneof![Just(0), Just(1 << 56), 0..=1u64 << 56];
        (threshold, 0..=Verdict::ALL_REASONS).prop_map(|(t, reasons)| Verdict { threshold: Threshold(t), reasons })
    }

    proptest! {
        #[test]
        fn merge_is_commutative_associative_and_idempotent(a in verdict(), b in verdict(), c in verdict()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
            prop_assert_eq!(a.merge(a), a);
            prop_assert_eq!(a.merge(Verdict::NONE), a);
            prop_assert_eq!(a.merge(b).merge(a), a.merge(b));
        }

        /// Every process that heard the same verdicts, in any order and number, settles alike.
        #[test]
        fn order_and_repetition_do_not_matter(
            verdicts in prop::collection::vec(verdict(), 1..8),
            again in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            randomness in 0..1u64 << 56,
        ) {
            let policy = Policy { normal: Threshold::of_share(0.01), edge_only: Threshold::of_share(0.001) };
            let shared = SharedVerdict::new(Verdict::NONE);
            verdicts.iter().rev().for_each(|v| { shared.merge(*v); });
            again.iter().for_each(|at| { shared.merge(*at.get(&verdicts)); });
            let plain = verdicts.iter().fold(Verdict::NONE, |a, b| a.merge(*b));
            prop_assert_eq!(shared.get(), plain);
            let settle = |v| policy.settle(Base::Normal, v, Threshold::ALWAYS, randomness);
            prop_assert_eq!(settle(shared.get()), settle(plain));
        }

        #[test]
        fn thresholds_read_back(value in 0..1u64 << 56) {
            let threshold = Threshold(value);
            prop_assert_eq!(Threshold::parse(&threshold.to_string()), Some(threshold));
        }
    }
}
