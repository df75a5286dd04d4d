//! Posterior counts by forward decay from a fixed landmark.
//!
//! An event at time `t` weighs `2^(t / half-life)`, counted from the Unix epoch, for ever; a snapshot divides by the
//! weight of its own time. So an event is added once and nothing ever ages in place, sums of partitions add up, and a
//! late event weighs what it would have weighed on time. The weights themselves outgrow any float within years, so a
//! sum is kept as a number times `2^scale`; moving the scale is exact in binary.
//! Always holds: the same events of an item in the same order give the same bits, however they were batched.

use attune_domain::{ItemIx, PosteriorCounts, PosteriorSnapshot, UnixMillis};
use std::collections::BTreeMap;
use std::time::Duration;

/// Evidence about an item at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PosteriorChange {
    pub item: ItemIx,
    pub at: UnixMillis,
    pub impressions: f32,
    pub rewards: f32,
}

/// How fast evidence loses weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decay {
    half_life_ms: i64,
}

impl Decay {
    /// At least a second, at most some ten thousand years; what is outside is brought in.
    pub fn new(half_life: Duration) -> Self {
        let ms = i64::try_from(half_life.as_millis()).unwrap_or(i64::MAX);
        Self { half_life_ms: ms.clamp(1_000, 1 << 48) }
    }

    pub(crate) fn half_life_ms(self) -> i64 {
        self.half_life_ms
    }

    /// Weight of an event at `at`: the exponent and a factor of 1 to 2.
    fn weight(self, at: UnixMillis) -> (i64, f64) {
        let rest = at.rem_euclid(self.half_life_ms) as f64 / self.half_life_ms as f64;
        (at.div_euclid(self.half_life_ms), rest.exp2())
    }
}

/// `2^exponent` for exponents at most 0, exactly; 0 where it is below the smallest normal number.
fn shrink(exponent: i64) -> f64 {
    debug_assert!(exponent <= 0);
    if exponent < -1022 { 0.0 } else { f64::from_bits(((1023 + exponent) as u64) << 52) }
}

/// Decayed sums of one item, each times `2^scale`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Decayed {
    scale: i64,
    impressions: f64,
    rewards: f64,
}

impl Decayed {
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn add(&mut self, decay: Decay, change: &PosteriorChange) {
        let (exponent, factor) = decay.weight(change.at);
        if *self == Self::default() {
            self.scale = exponent;
        } else if exponent > self.scale {
            let shift = shrink(self.scale - exponent);
            self.impressions *= shift;
            self.rewards *= shift;
            self.scale = exponent;
        }
        let weight = factor * shrink(exponent - self.scale);
        self.impressions += weight * f64::from(change.impressions);
        self.rewards += weight * f64::from(change.rewards);
    }

    /// Impressions and rewards as they weigh at `now`. Evidence from more than a half-life after `now`, which only a
    /// broken clock makes, counts in full and no more.
    fn at(&self, decay: Decay, now: UnixMillis) -> (f64, f64) {
        let (exponent, factor) = decay.weight(now);
        let ahead = self.scale - exponent;
        let scale = if ahead <= 1 { 2.0 * shrink(ahead - 1) / factor } else { 1.0 };
        (self.impressions * scale, self.rewards * scale)
    }

    /// The same worth at `now` under another half-life.
    pub(crate) fn under(&self, from: Decay, to: Decay, now: UnixMillis) -> Self {
        let (exponent, factor) = from.weight(now);
        let worth = shrink((self.scale - exponent).min(0)) / factor;
        let (scale, weight) = to.weight(now);
        Self { scale, impressions: self.impressions * worth * weight, rewards: self.rewards * worth * weight }
    }

    /// One that was kept under another half-life keeps its worth at `now`.
    pub(crate) fn restored(bytes: &[u8; Self::BYTES], kept: Decay, decay: Decay, now: UnixMillis) -> Self {
        let sum = Self::from_bytes(bytes).unwrap_or_default();
        if kept == decay { sum } else { sum.under(kept, decay, now) }
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.scale.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.impressions.to_be_bytes());
        bytes[16..].copy_from_slice(&self.rewards.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (scale, rest) = bytes.split_first_chunk()?;
        let (impressions, rewards) = rest.split_first_chunk()?;
        Some(Self {
            scale: i64::from_be_bytes(*scale),
            impressions: f64::from_be_bytes(*impressions),
            rewards: f64::from_be_bytes(rewards.try_into().ok()?),
        })
    }
}

/// An item's sums from one partition of the log.
pub(crate) type SumKey = (ItemIx, u16);

/// Sums of every item that has any, apart by partition: so they depend only on the order within each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Posteriors(pub(crate) BTreeMap<SumKey, Decayed>);

impl Posteriors {
    /// New sums of the items that `changes` of a partition touch.
    pub(crate) fn changed(
        &self,
        decay: Decay,
        partition: u16,
        changes: &[PosteriorChange],
    ) -> BTreeMap<SumKey, Decayed> {
        let mut out = BTreeMap::new();
        for change in changes {
            let key = (change.item, partition);
            out.entry(key).or_insert_with(|| self.0.get(&key).copied().unwrap_or_default()).add(decay, change);
        }
        out
    }

    /// Summed over partitions.
    pub(crate) fn snapshot(&self, decay: Decay, now: UnixMillis) -> PosteriorSnapshot {
        let mut sums: Vec<(ItemIx, f64, f64)> = Vec::with_capacity(self.0.len());
        for (&(item, _), part) in &self.0 {
            let (impressions, rewards) = part.at(decay, now);
            match sums.last_mut() {
                Some(last) if last.0 == item => (last.1, last.2) = (last.1 + impressions, last.2 + rewards),
                _ => sums.push((item, impressions, rewards)),
            }
        }
        let counts = sums.into_iter().map(|(item, impressions, rewards)| PosteriorCounts {
            item,
            impressions: impressions as f32,
            rewards: rewards as f32,
        });
        PosteriorSnapshot { counts: counts.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000;

    fn change(at: i64) -> PosteriorChange {
        PosteriorChange { item: ItemIx(1), at, impressions: 1.0, rewards: 0.5 }
    }

    proptest! {
        #[test]
        fn equals_the_definition_over_a_century(ats in prop::collection::vec(0i64..36_500, 1..60), days in 1u64..400) {
            let decay = Decay::new(Duration::from_secs(days * 86_400));
            let now = 36_500 * DAY;
            let mut sums = Decayed::default();
            for &day in &ats {
                sums.add(decay, &change(day * DAY));
            }
            let expected: f64 = ats.iter().map(|&day| (-((36_500 - day) as f64) / days as f64).exp2()).sum();
            let got = sums.at(decay, now);
            prop_assert!((got.0 - expected).abs() <= 1e-6 * expected + 1e-30);
            prop_assert!((got.1 - expected / 2.0).abs() <= 1e-6 * expected + 1e-30);
        }

        #[test]
        fn batching_does_not_change_a_bit(ats in prop::collection::vec(0i64..400, 1..60), cut in 0usize..60) {
            let decay = Decay::new(Duration::from_secs(86_400));
            let changes: Vec<_> = ats.iter().map(|&day| change(day * DAY + day)).collect();
            let whole = Posteriors::default().changed(decay, 0, &changes);
            let (head, tail) = changes.split_at(cut.min(changes.len()));
            let first = Posteriors(Posteriors::default().changed(decay, 0, head));
            let mut parts = first.0.clone();
            parts.extend(first.changed(decay, 0, tail));
            prop_assert_eq!(parts, whole);
        }
    }

    #[test]
    fn another_half_life_keeps_the_worth_of_now() {
        let (from, to) = (Decay::new(Duration::from_secs(86_400)), Decay::new(Duration::from_secs(9 * 86_400)));
        let mut sums = Decayed::default();
        sums.add(from, &change(20_000 * DAY));
        let now = 20_003 * DAY + 12_345;
        let (before, after) = (sums.at(from, now), sums.under(from, to, now).at(to, now));
        assert!((before.0 - after.0).abs() < 1e-6, "{before:?} {after:?}");
        assert!((before.0 - 0.125).abs() < 1e-3);
        assert_eq!(Decayed::from_bytes(&sums.to_bytes()), Some(sums));
        assert_eq!(Decayed::from_bytes(&[0; 23]), None);
    }
}
