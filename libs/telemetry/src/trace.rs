//! One local trace while it runs, and what it is when it has ended. Hot path.

use crate::buffers::{Buffers, OPEN};
use crate::context::Context;
use crate::grpc::Verdict;
use crate::log::Line;
use crate::sampling::Threshold;
use crate::{Baggage, Class, Kind, Telemetry, TraceParent};
use attune_domain::RequestId;
use spin::mutex::SpinMutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering::Relaxed};
use std::time::Duration;

/// Makes a line of a trace that is kept, from the trace's id and the span's.
pub(crate) type HeldLine = Box<dyn FnOnce(&Telemetry, (RequestId, [u8; 8])) -> Option<Line> + Send + Sync>;

/// Held for some nanoseconds, almost always by the one task of its request: a lock whose release is a plain store halves
/// the cost of an attribute (6.4 against 14.2 ns for a parking one).
type Lock<T> = SpinMutex<T, spin::relax::Yield>;

pub(crate) struct Trace {
    pub(crate) telemetry: Telemetry,
    pub(crate) id: RequestId,
    /// Span ids follow from this and the index.
    pub(crate) seed: u64,
    context: Context,
    begun: u64,
    /// [`Class`] bits of this trace and of the callees that told us.
    bits: AtomicU8,
    /// Whether another service was asked.
    called: AtomicBool,
    /// Subtrees that callees, and theirs, did not record.
    missing: AtomicU16,
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
    pub(crate) bits: u8,
    pub(crate) called: bool,
    pub(crate) missing: u16,
    pub(crate) buffers: Box<Buffers>,
}

impl Finished {
    /// What holding it costs, roughly.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.buffers.bytes()
    }
}

impl Trace {
    pub(crate) fn begin(telemetry: &Telemetry, name: &'static str, kind: Kind, id: RequestId, context: Context) -> Self {
        let (mut buffers, number) = telemetry.pool().take();
        let begun = telemetry.ticks().now();
        // Empty buffers have room for the root.
        let _root = buffers.begin(name, kind, 0, begun);
        Self {
            telemetry: telemetry.clone(),
            id,
            seed: telemetry.span_seed(id, number),
            context,
            begun,
            bits: AtomicU8::new(0),
            called: AtomicBool::new(false),
            missing: AtomicU16::new(0),
            baggage: OnceLock::new(),
            state: Lock::new(Some(buffers)),
        }
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.telemetry.ticks().now()
    }

    pub(crate) fn span_of(&self, from: u64, to: u64) -> Duration {
        Duration::from_nanos(self.telemetry.ticks().nanos(from, to))
    }

    pub(crate) fn note_call(&self) {
        self.called.store(true, Relaxed);
    }

    pub(crate) fn promote(&self, bits: u8) {
        self.bits.fetch_or(bits, Relaxed);
    }

    pub(crate) fn note_verdict(&self, verdict: Verdict) {
        self.promote(verdict.bits);
        let missing = verdict.missing.saturating_add(u16::from(!verdict.recorded));
        if missing > 0 {
            self.missing.fetch_add(missing, Relaxed);
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        Verdict { bits: self.bits_now(), recorded: true, missing: self.missing.load(Relaxed) }
    }

    pub(crate) fn tracestate(&self) -> Option<&str> {
        self.context.others.as_deref()
    }

    pub(crate) fn traceparent(&self, span: u8) -> TraceParent {
        let policy = self.telemetry.policy();
        let randomness = self.context.randomness(self.id);
        let head = policy.normal.keeps(randomness).then_some(policy.normal);
        let promoted = (self.bits_now() != 0).then_some(Threshold::ALWAYS);
        let threshold = [head, promoted, self.context.threshold()].into_iter().flatten().min();
        TraceParent {
            trace_id: self.id,
            span_id: span_id(self.seed, span),
            flags: self.context.random_flag() | u8::from(threshold.is_some()),
            threshold,
            randomness: self.context.parent.and_then(|parent| parent.randomness),
        }
    }

    /// Passing the slow limit promotes a trace before it ends.
    fn bits_now(&self) -> u8 {
        self.note_slow(self.now());
        self.bits.load(Relaxed)
    }

    fn note_slow(&self, now: u64) {
        if self.span_of(self.begun, now) > self.telemetry.slow_after() {
            self.promote(Class::Slow.bit());
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
        self.telemetry.settle(Finished {
            id: self.id,
            context: self.context.clone(),
            baggage: self.baggage.get().cloned(),
            seed: self.seed,
            begun: self.begun,
            bits: self.bits.load(Relaxed),
            called: self.called.load(Relaxed),
            missing: self.missing.load(Relaxed),
            buffers,
        });
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
