//! Mergeable summaries of one sub-window.
//!
//! Always holds: everything that is summed is an integer (counts, or numbers in fixed point), so a sketch is the same
//! bit for bit however its input was split, ordered or batched, and `merge` is associative and commutative. Each type
//! states its bound in bytes.

pub(crate) mod arms;
pub(crate) mod bounded;
pub(crate) mod calibration;
pub(crate) mod content;
pub(crate) mod distinct;
pub(crate) mod drift;
pub(crate) mod embedding;
pub(crate) mod items;
pub(crate) mod log_histogram;
pub(crate) mod mean;
pub(crate) mod moments;
pub(crate) mod ranking;

/// Bytes of one entry of a B-tree map beside its key and value: nodes are two thirds full or better, on average.
pub(crate) const TREE_ENTRY: usize = 8;

pub(crate) trait Sketch: Default + Clone {
    fn merge(&mut self, other: &Self);

    /// Bytes behind pointers.
    fn heap_bytes(&self) -> usize;
}

/// Fixed point with 30 fractional bits, for what is between -1e6 and 1e6; what is not finite counts as 0.
pub(crate) fn fixed(value: f64) -> i64 {
    (value.clamp(-1e6, 1e6) * UNIT).round() as i64
}

/// 1 in fixed point.
pub(crate) const UNIT: f64 = (1u64 << 30) as f64;

/// Spreads keys evenly whatever they were spread by before: partitions are cut by the same digest (Steele et al.,
/// OOPSLA 2014: the finaliser of SplitMix64).
pub(crate) fn spread(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
