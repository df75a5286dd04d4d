//! Identities of records written a short time ago.

use crate::{DedupKey, ObjectHash, Topic};
use std::collections::HashMap;

/// Identities of one generation; two are kept.
const GENERATION: usize = 500_000;

type Identity = (u8, [u8; 16], i64);

/// Knows the last half to one million identities, and where their records stand: at most 60 MB.
#[derive(Default)]
pub(super) struct Recent {
    young: HashMap<Identity, u64, rustc_hash::FxBuildHasher>,
    old: HashMap<Identity, u64, rustc_hash::FxBuildHasher>,
}

fn identity(topic: Topic, key: &DedupKey) -> Identity {
    (topic as u8, ObjectHash::of(&key.identity).0, key.day)
}

impl Recent {
    pub(super) fn find(&self, topic: Topic, key: &DedupKey) -> Option<u64> {
        let identity = identity(topic, key);
        self.young.get(&identity).or_else(|| self.old.get(&identity)).copied()
    }

    pub(super) fn add(&mut self, topic: Topic, key: &DedupKey, offset: u64) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(identity(topic, key), offset);
    }

    pub(super) fn forget_before(&mut self, day: i64) {
        self.young.retain(|(.., at), _| *at >= day);
        self.old.retain(|(.., at), _| *at >= day);
    }
}
