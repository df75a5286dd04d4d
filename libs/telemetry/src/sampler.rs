//! One process's sampling: what its local traces know, whom they tell, and when they leave.
//!
//! A verdict travels up in a callee's answer, down in the flags of later calls, and sideways over the bus. Who promotes
//! a trace says so on the bus, once, and only if the trace is kept by that and others could not know; who merely learns
//! of it does not repeat it.
//! Time is an argument. What is settled is handed back in `out`, for the caller to export or forget once it holds no lock.

mod metrics;

pub(crate) use metrics::SamplingMetrics;

use crate::bus::{Decision, Outbox};
use crate::governor::{Fallbacks, Governor};
use crate::sampling::{Base, Class, Outcome, Policy, SharedVerdict, Threshold, Verdict};
use crate::tail::{End, Heard, Late, Part, Recording, Settled, TailLimits, TailStore};
use attune_domain::{RequestId, UnixMillis};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Where a local trace stands while it is recorded.
pub(crate) struct Standing {
    id: RequestId,
    randomness: u64,
    /// The threshold under which it was recorded at all.
    floor: Threshold,
    asked_by_caller: bool,
    /// What its caller said.
    caller: Threshold,
    known: SharedVerdict,
    /// What the other processes know without being told.
    told: SharedVerdict,
    /// Classes for which the governor was asked on behalf of the trace, which is done once for each: a trace of many
    /// calls takes its part of the budget once. That it was asked does not depend on whether the trace is kept.
    asked: AtomicU8,
    watched: AtomicBool,
    bytes: AtomicUsize,
}

impl Standing {
    /// Merged from everywhere, so far.
    pub(crate) fn verdict(&self) -> Verdict {
        self.known.get()
    }

    pub(crate) fn floor(&self) -> Threshold {
        self.floor
    }

    pub(crate) fn randomness(&self) -> u64 {
        self.randomness
    }

    /// The threshold that goes along with a call, if the trace is kept as far as is known.
    pub(crate) fn flags(&self, policy: &Policy) -> Option<Threshold> {
        let threshold = policy.normal.min(self.known.get().threshold).max(self.floor);
        flags(threshold, self.caller, self.randomness)
    }

    /// What the recording holds by now.
    pub(crate) fn note_bytes(&self, bytes: usize) {
        self.bytes.store(bytes, Relaxed);
    }
}

/// A caller that keeps the trace is followed, even where its threshold does not look like it.
pub(crate) fn flags(threshold: Threshold, caller: Threshold, randomness: u64) -> Option<Threshold> {
    let followed = threshold == caller && caller != Threshold::NEVER;
    (followed || threshold.keeps(randomness)).then_some(threshold)
}

impl Recording for Arc<Standing> {
    fn learn(&self, verdict: Verdict) {
        self.known.merge(verdict);
        self.told.merge(verdict);
    }

    fn note_asked(&self, classes: u8) {
        self.asked.fetch_or(classes, Relaxed);
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

/// What the bus has brought, and time.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) published: AtomicU64,
    pub(crate) applied: AtomicU64,
    pub(crate) unmatched: AtomicU64,
    /// Traces that took too long to be watched to their end.
    pub(crate) aged: AtomicU64,
    /// Of the last batch heard: from the oldest decision until now.
    pub(crate) lag_ms: AtomicU64,
}

pub(crate) struct Sampler<P> {
    store: TailStore<Arc<Standing>, P>,
    governor: Governor,
    fallbacks: Fallbacks,
    outbox: Outbox,
    counts: Counts,
    /// This process, on the bus.
    origin: u32,
}

type Out<P> = Vec<Settled<P>>;

impl<P: Part> Sampler<P> {
    /// `budget` is of promoted traces a second.
    pub(crate) fn new(policy: Policy, limits: TailLimits, budget: u32, origin: u32) -> Self {
        Self {
            store: TailStore::new(policy, limits),
            governor: Governor::new(budget),
            fallbacks: Fallbacks::default(),
            outbox: Outbox::default(),
            counts: Counts::default(),
            origin,
        }
    }

    /// A new local trace; none where it is not to be recorded. `caller` is the threshold under which a caller keeps the
    /// trace ([`Threshold::NEVER`] if it does not say so), if there is a caller.
    pub(crate) fn begin(
        &self,
        id: RequestId,
        randomness: u64,
        caller: Option<Threshold>,
        now: Duration,
        out: &mut Out<P>,
    ) -> Option<Arc<Standing>> {
        let threshold = caller.unwrap_or(Threshold::NEVER);
        let floor = self.store.admit(randomness, threshold)?;
        let flags = Verdict { threshold, reasons: 0 };
        let standing = Arc::new(Standing {
            id,
            randomness,
            floor,
            asked_by_caller: caller.is_some(),
            caller: threshold,
            known: SharedVerdict::new(flags),
            told: SharedVerdict::new(flags),
            asked: AtomicU8::new(0),
            watched: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
        });
        if caller.is_some() {
            self.watch(&standing, now, out);
        }
        Some(standing)
    }

    /// The trace leaves this process: from now on others may have a part in it. Before its first call, a trace that
    /// nobody asked for is not in the store, and costs it nothing.
    pub(crate) fn watch(&self, standing: &Arc<Standing>, now: Duration, out: &mut Out<P>) {
        if !standing.watched.swap(true, Relaxed) {
            self.store.watch(standing.id, standing.randomness, standing.clone(), now, out);
        }
    }

    /// The trace belongs to this class, and so is kept as far as the budget allows.
    pub(crate) fn promote(&self, standing: &Standing, class: Class, now: Duration, out: &mut Out<P>) {
        let bit = class.bit();
        if standing.asked.fetch_or(bit, Relaxed) & bit == 0 {
            let threshold = self.governor.promote(class, now).max(standing.floor);
            self.apply(standing, Verdict { threshold, reasons: bit }, bit, now, out);
        }
    }

    /// The trace was answered with a fallback. Whether it is promoted for that must not depend on whether it is kept
    /// already: the one a second would then stand for an unknown number.
    pub(crate) fn degrade(
        &self,
        standing: &Standing,
        service: &'static str,
        reason: &'static str,
        now: Duration,
        out: &mut Out<P>,
    ) {
        if self.fallbacks.admit(service, reason, now) {
            let verdict = Verdict { threshold: standing.floor, reasons: Class::Degraded.bit() };
            self.apply(standing, verdict, 0, now, out);
        }
    }

    /// A callee's answer says what it knows. It has told the others itself.
    pub(crate) fn learn(&self, standing: &Arc<Standing>, verdict: Verdict, now: Duration, out: &mut Out<P>) {
        standing.learn(verdict);
        self.spread(standing, verdict, 0, now, out);
    }

    fn apply(&self, standing: &Standing, verdict: Verdict, asked: u8, now: Duration, out: &mut Out<P>) {
        standing.known.merge(verdict);
        // Before it spreads: from the store it comes back to this standing as something that all know.
        let others = standing.asked_by_caller || standing.watched.load(Relaxed);
        let assumed = standing.told.get().threshold.min(self.store.policy().normal);
        self.spread(standing, verdict, asked, now, out);
        if others && verdict.threshold < assumed && verdict.threshold.keeps(standing.randomness) {
            standing.told.merge(verdict);
            self.outbox.push(Decision { trace_id: standing.id, verdict, origin: self.origin, unix_ms: 0 });
        }
    }

    /// To the other parts of the trace in this process.
    fn spread(&self, standing: &Standing, verdict: Verdict, asked: u8, now: Duration, out: &mut Out<P>) {
        if standing.watched.load(Relaxed) {
            self.store.hear(standing.id, verdict, asked, now, out);
        }
    }

    /// The local root has ended, of a trace that nobody else has a part in: it is decided here and now. None for any
    /// other, which is to [`end`](Self::end).
    pub(crate) fn end_alone(&self, standing: &Standing, base: Base, now: Duration) -> Option<Outcome> {
        if standing.watched.load(Relaxed) {
            return None;
        }
        let verdict = standing.known.get();
        let outcome = self.store.policy().settle(base, verdict, standing.floor, standing.randomness);
        if outcome.keep {
            self.store.remember(standing.id, outcome, verdict.reasons, now);
        }
        Some(outcome)
    }

    /// The local root has ended, of a trace that is watched.
    pub(crate) fn end(&self, standing: &Arc<Standing>, part: P, now: Duration, out: &mut Out<P>) {
        let end = if standing.asked_by_caller { End::Call } else { End::Trace };
        self.store.end(standing.id, standing, standing.known.get(), part, end, now, out);
    }

    pub(crate) fn late(&self, id: RequestId, part: P, now: Duration, out: &mut Out<P>) -> Late {
        self.store.late(id, part, now, out)
    }

    /// What others decided.
    pub(crate) fn hear(&self, decisions: &[Decision], now: Duration, wall: UnixMillis, out: &mut Out<P>) {
        let mut lag = 0;
        for decision in decisions.iter().filter(|decision| decision.origin != self.origin) {
            match self.store.hear(decision.trace_id, decision.verdict, 0, now, out) {
                Heard::Applied => &self.counts.applied,
                Heard::Late => &self.counts.unmatched,
                Heard::Unknown => continue,
            }
            .fetch_add(1, Relaxed);
            // Clocks may differ: what seems to come from the future has no lag.
            lag =
                lag.max((wall as u32).wrapping_sub(decision.unix_ms).min(i32::MAX as u32 + 1) % (i32::MAX as u32 + 1));
        }
        self.counts.lag_ms.store(lag.into(), Relaxed);
    }

    /// To be called every 50 ms: settles what has waited, promotes what has become slow, sends what is to be told.
    pub(crate) fn tick(&self, now: Duration, wall: UnixMillis, out: &mut Out<P>) {
        let due = self.store.sweep(now, out);
        self.counts.aged.fetch_add(due.aged.len() as u64, Relaxed);
        due.slow.iter().for_each(|standing| self.promote(standing, Class::Slow, now, out));
        let sent = self.outbox.send(wall as u32);
        self.counts.published.fetch_add(sent as u64, Relaxed);
    }

    /// Settles all that waits.
    pub(crate) fn drain(&self, now: Duration, wall: UnixMillis, out: &mut Out<P>) {
        self.outbox.send(wall as u32);
        self.store.drain(now, out);
    }

    pub(crate) fn policy(&self) -> &Policy {
        self.store.policy()
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &TailStore<Arc<Standing>, P> {
        &self.store
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(crate) fn origin(&self) -> u32 {
        self.origin
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_macros, reason = "a test prints what it found")]
mod simulation;
