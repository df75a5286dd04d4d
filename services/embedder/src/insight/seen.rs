//! What was shown to whom: bounded, forgetting the oldest.
//!
//! Two generations: when the young one is full it becomes the old one, and the one before it is forgotten. Exact among
//! what is remembered, but for two pairs with the same 64 bits.

use attune_domain::ItemIx;
use rustc_hash::FxHashSet;

pub(crate) struct Seen {
    young: FxHashSet<u64>,
    old: FxHashSet<u64>,
    /// Pairs in a generation.
    most: usize,
}

impl Seen {
    pub(crate) fn new(most: usize) -> Self {
        Self { young: FxHashSet::default(), old: FxHashSet::default(), most }
    }

    /// Remembers that the visitor was shown the item. Returns whether that was known.
    pub(crate) fn mark(&mut self, visitor: u64, item: ItemIx) -> bool {
        let mut pair = [0; 12];
        pair[..8].copy_from_slice(&visitor.to_le_bytes());
        pair[8..].copy_from_slice(&item.0.to_le_bytes());
        let pair = xxhash_rust::xxh3::xxh3_64(&pair);
        if self.young.contains(&pair) {
            return true;
        }
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(pair);
        self.old.contains(&pair)
    }

    /// A set has up to 8/7 places a pair, doubled while it grows, of 9 bytes each.
    pub(crate) fn size_bytes(&self) -> usize {
        9 * (self.young.capacity() + self.old.capacity()) * 8 / 7
    }

    /// Older generation first.
    pub(crate) fn generations(&self) -> [Vec<u64>; 2] {
        [&self.old, &self.young].map(|generation| {
            let mut pairs: Vec<u64> = generation.iter().copied().collect();
            pairs.sort_unstable();
            pairs
        })
    }

    pub(crate) fn restore([old, young]: [Vec<u64>; 2], most: usize) -> Self {
        Self { young: young.into_iter().collect(), old: old.into_iter().collect(), most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pairs_are_known_and_a_restored_memory_knows_the_same() {
        let mut seen = Seen::new(100);
        assert!((0..1_000).all(|item| !seen.mark(1, ItemIx(item))));
        let known = |seen: &mut Seen, item| seen.mark(1, ItemIx(item));
        assert!((900..1_000).all(|item| known(&mut seen, item)));
        assert!(seen.young.len() + seen.old.len() <= 200 && !seen.mark(2, ItemIx(999)));
        let mut again = Seen::restore(seen.generations(), 100);
        assert!(known(&mut again, 999) && !known(&mut again, 1));
    }
}
