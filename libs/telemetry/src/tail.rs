//! Local traces from their beginning until it is settled whether they are kept.
//!
//! A process that ends its part of a trace often cannot know yet what the trace became. The part waits here, for a
//! verdict or for the end of the wait; then it is kept under the smallest threshold known, or dropped.
//! Always holds: a part leaves once, whole, with the threshold that every other part of its trace has (unless a verdict
//! was lost or late, which is counted); nothing is exported that was not settled; and memory is bounded, by shedding in
//! this order: wait less, drop the oldest part that neither the head nor a promotion wants, do not record what the head
//! does not want. What is promoted is never evicted.
//!
//! Time is an argument: what has passed since the process began. Nothing here calls out while it holds a lock, but
//! [`Recording::learn`], which only stores.

mod memory;
mod pressure;
mod shard;

use crate::sampling::{Base, Outcome, Policy, Threshold, Verdict};
use attune_domain::RequestId;
use memory::Memory;
use parking_lot::Mutex;
use pressure::{Load, Pressure};
use shard::{Entry, Shard};
use std::time::Duration;

const SHARDS: usize = 64;
/// What a trace is taken to need until it is known.
const RESERVED: usize = 2 << 10;

/// A local trace in progress, as the store sees it.
pub(crate) trait Recording: Clone {
    /// Merges what others say of the trace. Called under a lock: it must do no more.
    fn learn(&self, verdict: Verdict);
    /// For these classes the governor has been asked on behalf of the trace. No more than that either.
    fn note_asked(&self, classes: u8);
    /// What it holds now, roughly.
    fn bytes(&self) -> usize;
    fn is(&self, other: &Self) -> bool;
}

/// A local trace that has ended, or spans that came after its end.
pub(crate) trait Part {
    fn bytes(&self) -> usize;
    fn spans(&self) -> usize;
    /// What thresholds are held against: the low 56 bits of the trace id, or what a tracer above us chose instead.
    fn randomness(&self) -> u64;
    /// Under which threshold it was recorded at all.
    fn floor(&self) -> Threshold;
}

/// A part on its way out.
#[derive(Debug)]
pub(crate) struct Settled<P> {
    pub(crate) part: P,
    pub(crate) outcome: Outcome,
    /// From the part's end until now.
    pub(crate) waited: Duration,
}

/// Whose root it was that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The trace's own: nothing more will be learned.
    Trace,
    /// That of a part that a caller asked for.
    Call,
}

/// What a verdict from outside met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A trace that is here.
    Applied,
    /// A trace whose part was settled otherwise before.
    Late,
    /// A trace that was settled alike, or is not here; it is remembered.
    Unknown,
}

/// What became of spans that came after the end of their local root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// Their trace still waits, and so do they.
    Held,
    Keep,
    Drop,
    Unknown,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TailLimits {
    pub(crate) bytes: usize,
    pub(crate) traces: usize,
    /// How long an ended part waits for a verdict, and how long under pressure.
    pub(crate) wait: Duration,
    pub(crate) short_wait: Duration,
    /// A trace in progress is promoted after this.
    pub(crate) slow_after: Duration,
    /// A trace in progress is no longer watched after this.
    pub(crate) age: Duration,
}

/// What [`TailStore::sweep`] found besides parts to settle.
#[derive(Debug)]
pub(crate) struct Due<R> {
    /// In progress for longer than a slow request takes.
    pub(crate) slow: Vec<R>,
    /// In progress for longer than they are watched.
    pub(crate) aged: Vec<R>,
}

pub(crate) struct TailStore<R, P> {
    shards: Box<[Padded<R, P>]>,
    policy: Policy,
    limits: TailLimits,
    load: Load,
    pressure: Pressure,
}

/// Neighbouring locks are not on one cache line (nor on the pair that is fetched together).
#[repr(align(128))]
struct Padded<R, P>(Mutex<Shard<R, P>>);

impl<R: Recording, P: Part> TailStore<R, P> {
    pub(crate) fn new(policy: Policy, limits: TailLimits) -> Self {
        let shards = (0..SHARDS).map(|_| Padded(Mutex::new(Shard::default()))).collect();
        Self { shards, policy, limits, load: Load::default(), pressure: Pressure::default() }
    }

    /// Whether a new local root may be recorded, and from which threshold on: its floor. `caller` is the threshold
    /// under which its caller keeps the trace, if it does.
    pub(crate) fn admit(&self, randomness: u64, caller: Threshold) -> Option<Threshold> {
        if !self.pressure.stress() {
            return Some(Threshold::ALWAYS);
        }
        let floor = self.policy.normal.min(caller);
        if self.load.over(&self.limits) {
            self.pressure.count_refused();
            return None;
        }
        floor.keeps(randomness).then_some(floor)
    }

    /// From now on verdicts reach `recording`. What is known already it learns at once.
    pub(crate) fn watch(&self, id: RequestId, randomness: u64, recording: R, now: Duration, out: &mut Vec<Settled<P>>) {
        let key = key_of(id);
        let mut guard = self.shard(id);
        let shard = &mut *guard;
        let entry = shard.entries.entry(key).or_insert_with(|| {
            self.load.trace(1);
            Entry::new(randomness, shard.memories.get(key, now).unwrap_or(Memory::NONE))
        });
        recording.note_asked(entry.asked);
        if entry.verdict != Verdict::NONE {
            recording.learn(entry.verdict);
        }
        entry.live.push(recording);
        entry.reserved += RESERVED;
        self.load.bytes(RESERVED as isize);
        shard.young.push_back((now, key));
        drop(guard);
        self.relieve(id, now, out);
    }

    /// A watched local root has ended, as `part`; `verdict` is all that its recording knows.
    #[expect(clippy::too_many_arguments, reason = "each is a fact about the end")]
    pub(crate) fn end(
        &self,
        id: RequestId,
        recording: &R,
        verdict: Verdict,
        part: P,
        end: End,
        now: Duration,
        out: &mut Vec<Settled<P>>,
    ) {
        let key = key_of(id);
        let mut guard = self.shard(id);
        let shard = &mut *guard;
        let Some(entry) = shard.entries.get_mut(&key) else {
            // It was watched for too long; the memory may still know.
            let known = shard.memories.get(key, now).unwrap_or(Memory::NONE);
            let verdict = known.verdict.merge(verdict);
            let settled = self.settle(part, verdict, Duration::ZERO);
            let verdict = Verdict { threshold: settled.outcome.threshold, ..verdict };
            shard.memories.put(key, Memory { verdict, settled: true, ..known }, now);
            out.push(settled);
            return;
        };
        self.forget_live(entry, recording);
        let changed = entry.merge(verdict);
        entry.ended = now;
        let firm = self.firm(entry);
        self.take(entry, part, now);
        if end == End::Trace {
            entry.settled = true;
        }
        self.release(entry, changed, now, out);
        if entry.is_over() {
            self.remove(shard, key, now);
        } else if !entry.parts.is_empty() {
            let ring = if firm { &mut shard.firm } else { &mut shard.held };
            ring.push_back((now, key));
        }
        drop(guard);
        self.relieve(id, now, out);
    }

    /// A verdict from elsewhere: the bus, a callee's answer, or a promotion of a local trace, for which it `asked`.
    pub(crate) fn hear(
        &self,
        id: RequestId,
        verdict: Verdict,
        asked: u8,
        now: Duration,
        out: &mut Vec<Settled<P>>,
    ) -> Heard {
        let key = key_of(id);
        let mut guard = self.shard(id);
        let shard = &mut *guard;
        if let Some(entry) = shard.entries.get_mut(&key) {
            let changed = entry.merge(verdict);
            if asked != 0 {
                entry.asked |= asked;
                entry.live.iter().for_each(|live| live.note_asked(asked));
            }
            self.release(entry, changed, now, out);
            if entry.is_over() {
                self.remove(shard, key, now);
            }
            return Heard::Applied;
        }
        let known = shard.memories.get(key, now).unwrap_or(Memory::NONE);
        let merged = Memory { verdict: known.verdict.merge(verdict), asked: known.asked | asked, ..known };
        shard.memories.put(key, merged, now);
        if !known.settled || merged.verdict.threshold >= known.verdict.threshold {
            return Heard::Unknown;
        }
        if known.evicted {
            self.pressure.count_promoted();
        }
        Heard::Late
    }

    /// Remembers a trace that was settled without having been watched.
    pub(crate) fn remember(&self, id: RequestId, outcome: Outcome, reasons: u8, now: Duration) {
        let verdict = Verdict { threshold: outcome.threshold, reasons };
        self.shard(id).memories.put(key_of(id), Memory { verdict, settled: true, ..Memory::NONE }, now);
    }

    /// Spans that ended after their local root.
    pub(crate) fn late(&self, id: RequestId, part: P, now: Duration, out: &mut Vec<Settled<P>>) -> Late {
        let key = key_of(id);
        let mut shard = self.shard(id);
        if let Some(entry) = shard.entries.get_mut(&key) {
            self.take(entry, part, now);
            self.release(entry, false, now, out);
            return Late::Held;
        }
        match shard.memories.get(key, now) {
            Some(Memory { verdict, settled: true, .. }) => {
                let settled = self.settle(part, verdict, Duration::ZERO);
                let late = if settled.outcome.keep { Late::Keep } else { Late::Drop };
                out.push(settled);
                late
            }
            _ => Late::Unknown,
        }
    }

    /// Settles what has waited long enough. To be called some twenty times a second.
    pub(crate) fn sweep(&self, now: Duration, out: &mut Vec<Settled<P>>) -> Due<R> {
        let mut due = Due { slow: Vec::new(), aged: Vec::new() };
        self.pressure.weigh(&self.load, &self.limits);
        let wait = self.wait();
        for padded in &self.shards {
            let mut shard = padded.0.lock();
            for firm in [false, true] {
                while let Some(key) = shard.overdue(firm, now.saturating_sub(wait)) {
                    self.expire(&mut shard, key, now, out);
                }
            }
            while let Some((born, key)) = shard.take_young(now.saturating_sub(self.limits.slow_after)) {
                if let Some(entry) = shard.entries.get_mut(&key).filter(|entry| !entry.live.is_empty()) {
                    let held: usize = entry.live.iter().map(|live| live.bytes().max(RESERVED)).sum();
                    self.load.bytes(held as isize - entry.reserved as isize);
                    entry.reserved = held;
                    due.slow.extend(entry.live.iter().cloned());
                    shard.old.push_back((born, key));
                }
            }
            while let Some((_, key)) = shard.take_old(now.saturating_sub(self.limits.age)) {
                let Some(entry) = shard.entries.get_mut(&key) else { continue };
                due.aged.append(&mut entry.live);
                self.load.bytes(-(std::mem::take(&mut entry.reserved) as isize));
                if entry.parts.is_empty() {
                    self.remove(&mut shard, key, now);
                } else {
                    self.expire(&mut shard, key, now, out);
                }
            }
        }
        if self.load.over(&self.limits) {
            self.evict(0, SHARDS, now, out);
        }
        due
    }

    /// Settles everything that waits and has no part in progress, at the end of the process.
    pub(crate) fn drain(&self, now: Duration, out: &mut Vec<Settled<P>>) {
        for padded in &self.shards {
            let mut shard = padded.0.lock();
            let waiting = shard.entries.iter().filter(|(_, entry)| entry.live.is_empty());
            let keys: Vec<u128> = waiting.map(|(key, _)| *key).collect();
            keys.into_iter().for_each(|key| self.expire(&mut shard, key, now, out));
        }
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limits.bytes
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    pub(crate) fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    fn shard(&self, id: RequestId) -> parking_lot::MutexGuard<'_, Shard<R, P>> {
        self.shards[usize::from(id.0[15]) % SHARDS].0.lock()
    }

    fn wait(&self) -> Duration {
        if self.pressure.short_wait() { self.limits.short_wait } else { self.limits.wait }
    }

    /// Wanted by the head or by a promotion: not to be evicted.
    fn firm(&self, entry: &Entry<R, P>) -> bool {
        self.policy.normal.min(entry.verdict.threshold).keeps(entry.randomness)
    }

    fn settle(&self, part: P, verdict: Verdict, waited: Duration) -> Settled<P> {
        let outcome = self.policy.settle(Base::Normal, verdict, part.floor(), part.randomness());
        Settled { part, outcome, waited }
    }

    fn take(&self, entry: &mut Entry<R, P>, part: P, now: Duration) {
        self.load.bytes(part.bytes() as isize);
        self.load.spans(part.spans() as isize);
        entry.parts.push((now, part));
    }

    fn forget_live(&self, entry: &mut Entry<R, P>, recording: &R) {
        if let Some(at) = entry.live.iter().position(|live| live.is(recording)) {
            entry.live.swap_remove(at);
        }
        let reserved = if entry.live.is_empty() { entry.reserved } else { entry.reserved.min(RESERVED) };
        entry.reserved -= reserved;
        self.load.bytes(-(reserved as isize));
    }

    /// Tells the recordings what is new, and lets go of the parts about which nothing more can be learned.
    fn release(&self, entry: &mut Entry<R, P>, changed: bool, now: Duration, out: &mut Vec<Settled<P>>) {
        if changed {
            entry.live.iter().for_each(|live| live.learn(entry.verdict));
        }
        let threshold = self.policy.normal.min(entry.verdict.threshold);
        let verdict = entry.verdict;
        let settled = entry.settled;
        for (ended, part) in entry.parts.extract_if(.., |(_, part)| settled || threshold <= part.floor()) {
            self.load.bytes(-(part.bytes() as isize));
            self.load.spans(-(part.spans() as isize));
            out.push(self.settle(part, verdict, now.saturating_sub(ended)));
        }
    }

    /// Makes room: what is known now is the last word, and remembered to have been said early.
    fn drop_parts(&self, shard: &mut Shard<R, P>, key: u128, now: Duration, out: &mut Vec<Settled<P>>) {
        if let Some(entry) = shard.entries.get_mut(&key) {
            entry.evicted = true;
        }
        self.expire(shard, key, now, out);
    }

    /// The wait is over: what is known now is the last word.
    fn expire(&self, shard: &mut Shard<R, P>, key: u128, now: Duration, out: &mut Vec<Settled<P>>) {
        let Some(entry) = shard.entries.get_mut(&key) else { return };
        entry.settled = true;
        self.release(entry, false, now, out);
        if entry.is_over() {
            self.remove(shard, key, now);
        }
    }

    /// Forgets an entry that holds nothing any more, and remembers its verdict.
    fn remove(&self, shard: &mut Shard<R, P>, key: u128, now: Duration) {
        let Some(entry) = shard.entries.remove(&key) else { return };
        self.load.trace(-1);
        self.load.bytes(-(entry.reserved as isize));
        let verdict = Verdict { threshold: self.policy.normal.min(entry.verdict.threshold), ..entry.verdict };
        let Entry { asked, evicted, .. } = entry;
        shard.memories.put(key, Memory { verdict, asked, settled: true, evicted }, now);
    }

    /// Back below the bounds, or into stress mode. In stress mode the sweep looks through the other shards.
    fn relieve(&self, id: RequestId, now: Duration, out: &mut Vec<Settled<P>>) {
        if self.load.over(&self.limits) {
            self.pressure.weigh(&self.load, &self.limits);
            let shards = if self.pressure.stress() { 1 } else { SHARDS };
            self.evict(usize::from(id.0[15]) % SHARDS, shards, now, out);
        }
    }

    /// Drops the oldest parts that may be dropped. They are looked for shard by shard: ids are random, so the shards are
    /// of one age.
    fn evict(&self, first: usize, shards: usize, now: Duration, out: &mut Vec<Settled<P>>) {
        for at in (first..SHARDS).chain(0..first).take(shards) {
            let mut shard = self.shards[at].0.lock();
            while self.load.over(&self.limits) {
                let Some(key) = shard.oldest_evictable(|entry| self.firm(entry)) else { break };
                let before = out.len();
                self.drop_parts(&mut shard, key, now, out);
                self.pressure.count_evicted(out.len() - before);
            }
            if !self.load.over(&self.limits) {
                return;
            }
        }
        self.pressure.begin_stress();
    }
}

fn key_of(id: RequestId) -> u128 {
    u128::from_be_bytes(id.0)
}

#[cfg(test)]
#[allow(clippy::disallowed_macros, reason = "a test prints what it found")]
mod tests;
