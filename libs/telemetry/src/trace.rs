//! One local trace while it runs, and what it is when it has ended. Hot path.

use crate::buffers::{Buffers, OPEN, Subtree};
use crate::context::Context;
use crate::grpc::Subtrace;
use crate::sampler::{Standing, flags};
use crate::sampling::{Threshold, Verdict};
use crate::{Baggage, Class, Kind, Telemetry, TraceParent};
use attune_domain::RequestId;
use spin::mutex::SpinMutex;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Held for some nanoseconds, almost always by the one task of its request: a lock whose release is a plain store halves
/// the cost of an attribute (6.4 against 14.2 ns for a parking one).
type Lock<T> = SpinMutex<T, spin::relax::Yield>;

pub(crate) struct Trace {
    pub(crate) telemetry: Telemetry,
    pub(crate) id: RequestId,
    /// Span ids follow from this and the index.
    pub(crate) seed: u64,
    context: Context,
    pub(crate) begun: u64,
    /// None where the trace is not recorded, for want of room.
    standing: Option<Arc<Standing>>,
    /// Whether another service was asked.
    called: AtomicBool,
    /// Subtrees that callees, and theirs, did not record.
    missing: AtomicU16,
    /// Begun after the end of the local trace that it belongs to.
    late: bool,
    pub(crate) baggage: OnceLock<Baggage>,
    /// None once it has ended.
    pub(crate) state: Lock<Option<Box<Buffers>>>,
}

/// A local trace that has ended and is not decided yet.
pub(crate) struct Finished {
    pub(crate) id: RequestId,
    pub(crate) context: Context,
    pub(crate) baggage: Option<Baggage>,
    pub(crate) seed: u64,
    /// Of the root, on the recorder's clock.
    pub(crate) begun: u64,
    pub(crate) standing: Arc<Standing>,
    pub(crate) called: bool,
    pub(crate) missing: u16,
    pub(crate) late: bool,
    pub(crate) buffers: Box<Buffers>,
}

impl Finished {
    /// What holding it costs, roughly.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + size_of::<Standing>() + self.buffers.bytes()
    }
}

impl Trace {
    pub(crate) fn begin(
        telemetry: &Telemetry,
        name: &'static str,
        kind: Kind,
        id: RequestId,
        context: Context,
    ) -> Self {
        let randomness = context.randomness(id);
        let caller = context.parent.map(|_| context.threshold().unwrap_or(Threshold::NEVER));
        let standing = telemetry.with_sampler(|sampler, now, out| sampler.begin(id, randomness, caller, now, out));
        Self::with(telemetry, name, kind, id, context, standing, false)
    }

    /// A span that begins below `span` after the end of its local trace: it inherits what becomes of that.
    pub(crate) fn late(of: &Self, span: u8, name: &'static str, kind: Kind) -> Option<Self> {
        let standing = Some(of.standing.clone()?);
        let parent = of.traceparent(span);
        let context = Context { parent: Some(parent), others: of.context.others.clone() };
        let mut late = Self::with(&of.telemetry, name, kind, of.id, context, standing, true);
        late.baggage.clone_from(&of.baggage);
        Some(late)
    }

    fn with(
        telemetry: &Telemetry,
        name: &'static str,
        kind: Kind,
        id: RequestId,
        context: Context,
        standing: Option<Arc<Standing>>,
        late: bool,
    ) -> Self {
        let (mut buffers, number) = telemetry.pool().take();
        let begun = telemetry.ticks().now();
        // Empty buffers have room for the root.
        let _root = buffers.begin(name, kind, 0, begun);
        let buffers = if standing.is_some() {
            Some(buffers)
        } else {
            telemetry.pool().put(buffers);
            None
        };
        Self {
            telemetry: telemetry.clone(),
            id,
            seed: telemetry.span_seed(id, number),
            context,
            begun,
            standing,
            called: AtomicBool::new(false),
            missing: AtomicU16::new(0),
            late,
            baggage: OnceLock::new(),
            state: Lock::new(buffers),
        }
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.telemetry.ticks().now()
    }

    pub(crate) fn span_of(&self, from: u64, to: u64) -> Duration {
        Duration::from_nanos(self.telemetry.ticks().nanos(from, to))
    }

    /// From now on the trace is not this process's alone.
    pub(crate) fn note_call(&self) {
        self.called.store(true, Relaxed);
        let bytes = self.state.lock().as_ref().map(|buffers| buffers.bytes());
        // What has ended will not end again, and needs no watching.
        if let (Some(standing), Some(bytes), false) = (&self.standing, bytes, self.late) {
            standing.note_bytes(bytes);
            self.telemetry.with_sampler(|sampler, now, out| sampler.watch(standing, now, out));
        }
    }

    pub(crate) fn promote(&self, class: Class) {
        if let Some(standing) = &self.standing {
            self.telemetry.with_sampler(|sampler, now, out| sampler.promote(standing, class, now, out));
        }
    }

    pub(crate) fn degrade(&self, reason: &'static str) {
        if let Some(standing) = &self.standing {
            let service = self.telemetry.info().service;
            self.telemetry.with_sampler(|sampler, now, out| sampler.degrade(standing, service, reason, now, out));
        }
    }

    /// From the answer of a callee; says what is known now of its part.
    pub(crate) fn learn(&self, subtrace: Subtrace) -> Subtree {
        let missing = subtrace.missing.saturating_add(u16::from(!subtrace.recorded));
        if missing > 0 {
            self.missing.fetch_add(missing, Relaxed);
        }
        if subtrace.verdict != Verdict::NONE
            && let Some(standing) = &self.standing
        {
            self.telemetry.with_sampler(|sampler, now, out| sampler.learn(standing, subtrace.verdict, now, out));
        }
        let randomness = self.context.randomness(self.id);
        match subtrace {
            Subtrace { recorded: false, .. } => Subtree::Unrecorded,
            Subtrace { verdict, .. } if verdict.threshold.keeps(randomness) => Subtree::Kept,
            _ => Subtree::Requested,
        }
    }

    pub(crate) fn subtrace(&self) -> Subtrace {
        self.note_slow_so_far();
        let verdict = self.standing.as_ref().map_or(Verdict::NONE, |standing| standing.verdict());
        Subtrace { verdict, recorded: self.standing.is_some(), missing: self.missing.load(Relaxed) }
    }

    pub(crate) fn is_asked_for(&self) -> bool {
        self.context.parent.is_some()
    }

    pub(crate) fn tracestate(&self) -> Option<&str> {
        self.context.others.as_deref()
    }

    pub(crate) fn traceparent(&self, span: u8) -> TraceParent {
        self.note_slow_so_far();
        let policy = self.telemetry.policy();
        let threshold = match &self.standing {
            Some(standing) => standing.flags(policy),
            None => {
                let caller = self.context.threshold().unwrap_or(Threshold::NEVER);
                flags(policy.normal.min(caller), caller, self.context.randomness(self.id))
            }
        };
        TraceParent {
            trace_id: self.id,
            span_id: span_id(self.seed, span),
            flags: self.context.random_flag() | u8::from(threshold.is_some()),
            threshold,
            randomness: self.context.parent.and_then(|parent| parent.randomness),
        }
    }

    /// Passing the slow limit promotes a trace before it ends; what is asked of it afterwards does not.
    fn note_slow_so_far(&self) {
        if self.state.lock().is_some() {
            self.note_slow(self.now());
        }
    }

    fn note_slow(&self, now: u64) {
        if !self.late && self.span_of(self.begun, now) > self.telemetry.slow_after() {
            self.promote(Class::Slow);
        }
    }

    /// Only the first call finds something to do.
    pub(crate) fn finish(&self, now: u64) {
        let Some(buffers) = self.state.lock().take() else { return };
        self.settle(buffers, now);
    }

    fn settle(&self, mut buffers: Box<Buffers>, now: u64) {
        for (index, record) in buffers.records.iter_mut().enumerate() {
            if record.ended == OPEN {
                record.ended = now;
                record.unfinished = index > 0;
            }
        }
        self.note_slow(now);
        // Without one there are no buffers either.
        let Some(standing) = self.standing.clone() else { return };
        let finished = Finished {
            id: self.id,
            context: self.context.clone(),
            baggage: self.baggage.get().cloned(),
            seed: self.seed,
            begun: self.begun,
            standing,
            called: self.called.load(Relaxed),
            missing: self.missing.load(Relaxed),
            late: self.late,
            buffers,
        };
        if self.late { self.telemetry.settle_late(finished) } else { self.telemetry.settle(finished) }
    }
}

impl Drop for Trace {
    /// Nobody holds the root any more and nobody ended it: the work was dropped.
    fn drop(&mut self) {
        if let Some(mut buffers) = self.state.get_mut().take() {
            let now = self.now();
            buffers.event(0, "cancelled", now);
            self.settle(buffers, now);
        }
    }
}

/// SplitMix64 of the trace's seed and the span's number; never zero.
pub(crate) fn span_id(seed: u64, index: u8) -> [u8; 8] {
    crate::telemetry::mix(seed.wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15))).max(1).to_be_bytes()
}
