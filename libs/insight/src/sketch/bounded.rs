//! A map that stays small although its keys are an open set.

use super::{Sketch, TREE_ENTRY};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Keeps the `MOST` smallest keys it ever saw and adds up the rest. Which they are does not depend on the order, so
/// merging stays associative: a key among the smallest of all was among the smallest of every part.
/// `MOST + 1` sketches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bounded<S, const MOST: usize> {
    kept: BTreeMap<u64, S>,
    rest: Option<Box<S>>,
}

impl<S: Sketch, const MOST: usize> Bounded<S, MOST> {
    pub(crate) fn at(&mut self, key: u64) -> &mut S {
        let is_beyond =
            self.kept.len() >= MOST && self.kept.last_key_value().is_some_and(|(&largest, _)| key > largest);
        if is_beyond {
            return self.rest.get_or_insert_default();
        }
        self.kept.entry(key).or_default();
        self.shrink();
        self.kept.entry(key).or_default()
    }

    /// The kept ones by key, then the rest without one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Option<u64>, &S)> {
        let kept = self.kept.iter().map(|(&key, sketch)| (Some(key), sketch));
        kept.chain(self.rest.iter().map(|sketch| (None, &**sketch)))
    }

    pub(crate) fn get(&self, key: Option<u64>) -> Option<&S> {
        match key {
            Some(key) => self.kept.get(&key),
            None => self.rest.as_deref(),
        }
    }

    fn shrink(&mut self) {
        while self.kept.len() > MOST {
            if let Some((_, sketch)) = self.kept.pop_last() {
                self.rest.get_or_insert_default().merge(&sketch);
            }
        }
    }
}

impl<S, const MOST: usize> Default for Bounded<S, MOST> {
    fn default() -> Self {
        Self { kept: BTreeMap::new(), rest: None }
    }
}

impl<S: Sketch, const MOST: usize> Sketch for Bounded<S, MOST> {
    fn merge(&mut self, other: &Self) {
        for (&key, sketch) in &other.kept {
            self.kept.entry(key).or_default().merge(sketch);
        }
        self.shrink();
        if let Some(rest) = &other.rest {
            self.rest.get_or_insert_default().merge(rest);
        }
    }

    fn heap_bytes(&self) -> usize {
        let each = |sketch: &S| size_of::<S>() + TREE_ENTRY + sketch.heap_bytes();
        self.kept.values().chain(self.rest.as_deref()).map(each).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::mean::Mean;
    use super::*;
    use proptest::prelude::*;

    fn of(keys: &[u64]) -> Bounded<Mean, 3> {
        let mut map = Bounded::<Mean, 3>::default();
        keys.iter().for_each(|&key| map.at(key).add(0.5));
        map
    }

    proptest! {
        #[test]
        fn order_and_split_do_not_matter(mut keys in prop::collection::vec(0u64..8, 0..40), cut in 0usize..40) {
            let (head, tail) = keys.split_at(cut.min(keys.len()));
            let (a, b) = (of(head), of(tail));
            let mut ab = a.clone();
            ab.merge(&b);
            let mut ba = b;
            ba.merge(&a);
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(&ab, &of(&keys));
            keys.reverse();
            prop_assert_eq!(&ab, &of(&keys));
            prop_assert!(ab.kept.len() <= 3);
        }
    }
}
