//! One lock's worth of traces.

use super::memory::{Memories, Memory};
use crate::sampling::Verdict;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

/// All that this process knows and holds of one trace.
pub(crate) struct Entry<R, P> {
    pub(super) randomness: u64,
    pub(super) verdict: Verdict,
    /// Classes for which this process has asked its governor on behalf of the trace.
    pub(super) asked: u8,
    /// Nothing more will be learned: what ends from now on leaves at once.
    pub(super) settled: bool,
    /// Parts of it were dropped for room.
    pub(super) evicted: bool,
    pub(super) live: Vec<R>,
    /// Each with the moment it ended at.
    pub(super) parts: Vec<(Duration, P)>,
    /// When the last part ended.
    pub(super) ended: Duration,
    /// Bytes set aside for the live ones.
    pub(super) reserved: usize,
}

impl<R, P> Entry<R, P> {
    pub(super) fn new(randomness: u64, known: Memory) -> Self {
        Self {
            randomness,
            verdict: known.verdict,
            asked: known.asked,
            settled: known.settled,
            evicted: known.evicted,
            live: Vec::with_capacity(1),
            parts: Vec::new(),
            ended: Duration::ZERO,
            reserved: 0,
        }
    }

    pub(super) fn merge(&mut self, verdict: Verdict) -> bool {
        let before = self.verdict;
        self.verdict = before.merge(verdict);
        before != self.verdict
    }

    pub(super) fn is_over(&self) -> bool {
        self.live.is_empty() && self.parts.is_empty()
    }
}

type Ring = VecDeque<(Duration, u128)>;

/// The rings are in order of time; what they name may be gone, or have a later place in the same ring.
pub(crate) struct Shard<R, P> {
    pub(super) entries: HashMap<u128, Entry<R, P>, BuildHasherDefault<IdHasher>>,
    /// Ended parts, of traces that may be evicted and of those that may not.
    pub(super) held: Ring,
    pub(super) firm: Ring,
    /// Begun: not yet slow; and slow, not yet too old.
    pub(super) young: Ring,
    pub(super) old: Ring,
    pub(super) memories: Memories,
}

impl<R, P> Default for Shard<R, P> {
    fn default() -> Self {
        Self {
            entries: HashMap::default(),
            held: Ring::new(),
            firm: Ring::new(),
            young: Ring::new(),
            old: Ring::new(),
            memories: Memories::default(),
        }
    }
}

impl<R, P> Shard<R, P> {
    /// A trace whose last part ended at `until` or before, and whose other parts are not in progress any more.
    pub(super) fn overdue(&mut self, firm: bool, until: Duration) -> Option<u128> {
        let ring = if firm { &mut self.firm } else { &mut self.held };
        while let Some(&(ended, key)) = ring.front() {
            if ended > until {
                return None;
            }
            ring.pop_front();
            if self.entries.get(&key).is_some_and(|entry| entry.ended == ended && entry.live.is_empty()) {
                return Some(key);
            }
        }
        None
    }

    pub(super) fn take_young(&mut self, until: Duration) -> Option<(Duration, u128)> {
        self.young.pop_front_if(|(born, _)| *born <= until)
    }

    pub(super) fn take_old(&mut self, until: Duration) -> Option<(Duration, u128)> {
        self.old.pop_front_if(|(born, _)| *born <= until)
    }

    /// The trace that ended first among those that nobody wants so far. Those that turn out to be `firm` change rings.
    pub(super) fn oldest_evictable(&mut self, firm: impl Fn(&Entry<R, P>) -> bool) -> Option<u128> {
        while let Some((ended, key)) = self.held.pop_front() {
            let Some(entry) = self.entries.get(&key).filter(|entry| entry.ended == ended && entry.live.is_empty())
            else {
                continue;
            };
            if firm(entry) {
                self.firm.push_back((ended, key));
            } else {
                return Some(key);
            }
        }
        None
    }
}

/// The low bits of a trace id are random, so one multiplication is enough.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.write_u128(bytes.iter().fold(0, |id, byte| id << 8 | u128::from(*byte)));
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
