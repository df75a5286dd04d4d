//! What was heard of traces that are not here (yet), and what became of those that were.
//!
//! 4,096 places a shard, in sets of eight chosen by the trace id; a verdict lives for 30 s, and in a full set the oldest
//! gives way. The memory is taken when the first verdict is stored.

use crate::sampling::Verdict;
use std::time::Duration;

const SETS: usize = 512;
const WAYS: usize = 8;
const LIFE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) verdict: Verdict,
    /// Classes for which this process has asked its governor on behalf of the trace.
    pub(crate) asked: u8,
    /// Local traces were settled by the verdict; otherwise it was only heard.
    pub(crate) settled: bool,
    /// Parts of it were dropped for room.
    pub(crate) evicted: bool,
}

impl Memory {
    pub(crate) const NONE: Self = Self { verdict: Verdict::NONE, asked: 0, settled: false, evicted: false };
}

#[derive(Clone, Copy)]
struct Place {
    id: u128,
    /// Milliseconds; zero is an empty place.
    until: u64,
    memory: Memory,
}

#[derive(Default)]
pub(crate) struct Memories {
    places: Vec<Place>,
}

impl Memories {
    pub(crate) fn get(&self, id: u128, now: Duration) -> Option<Memory> {
        let now = millis(now);
        let set = self.places.get(set_of(id))?;
        set.iter().find(|place| place.id == id && place.until > now).map(|place| place.memory)
    }

    /// Replaces what was known of the trace.
    pub(crate) fn put(&mut self, id: u128, memory: Memory, now: Duration) {
        if self.places.is_empty() {
            let empty = Place { id: 0, until: 0, memory: Memory::NONE };
            self.places = vec![empty; SETS * WAYS];
        }
        let until = millis(now + LIFE);
        let Some(set) = self.places.get_mut(set_of(id)) else { return };
        let known = set.iter().position(|place| place.id == id && place.until > 0);
        let at = known.or_else(|| (0..set.len()).min_by_key(|&at| set[at].until));
        if let Some(place) = at.and_then(|at| set.get_mut(at)) {
            *place = Place { id, until, memory };
        }
    }
}

/// The bits above those that choose the shard.
fn set_of(id: u128) -> std::ops::Range<usize> {
    let first = (id >> 8) as usize % SETS * WAYS;
    first..first + WAYS
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::Threshold;

    #[test]
    fn the_oldest_of_a_full_set_gives_way_and_all_end() {
        let mut memories = Memories::default();
        let at = |ms| Duration::from_millis(1_000 + ms);
        let heard = Memory { verdict: Verdict { threshold: Threshold::ALWAYS, reasons: 8 }, ..Memory::NONE };
        assert_eq!(memories.get(7, at(0)), None);
        // All in one set.
        let id = |n: u128| n << 64;
        for n in 0..9 {
            memories.put(id(n), heard, at(n as u64));
        }
        assert_eq!(memories.get(id(0), at(10)), None);
        assert!((1..9).all(|n| memories.get(id(n), at(10)) == Some(heard)));
        let settled = Memory { settled: true, ..Memory::NONE };
        memories.put(id(1), settled, at(11));
        memories.put(id(10), heard, at(12));
        assert_eq!(memories.get(id(1), at(12)), Some(settled));
        assert_eq!(memories.get(id(2), at(12)), None, "it was the oldest then");
        assert_eq!(memories.get(id(3), at(30_002)), Some(heard));
        assert_eq!(memories.get(id(3), at(30_003)), None);
    }
}
