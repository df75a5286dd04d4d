//! Spans of one local trace, in a request-local buffer. Hot path.
//!
//! A trace ends with its local root; what is still open then is closed with it and marked `unfinished`. A root that is
//! dropped without an end closes as `cancelled`. Bounds: 256 spans a trace, 16 attributes and 16 events a span.

use crate::log::Line;
use crate::metrics::Pending;
use crate::sampling::{Class, Threshold};
use crate::{AttrValue, Telemetry, TraceParent};
use attune_domain::RequestId;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

const MAX_SPANS: usize = 256;
const MAX_ATTRS: usize = 16;
const MAX_EVENTS: usize = 16;

/// What a span is to its neighbours, as OpenTelemetry has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// A handle on one span. Cloning does not make a span; only [`Span::end`] or a [`SpanGuard`] ends it.
#[derive(Clone)]
pub struct Span(Option<Handle>);

#[derive(Clone)]
struct Handle {
    trace: Arc<Trace>,
    index: u32,
    /// False when a bound was hit: the handle then only carries the context of its nearest recorded ancestor.
    recorded: bool,
}

/// Ends its span when dropped.
#[must_use = "the span ends when this is dropped"]
pub struct SpanGuard(Span);

impl std::ops::Deref for SpanGuard {
    type Target = Span;

    fn deref(&self) -> &Span {
        &self.0
    }
}

impl Drop for SpanGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

pub(crate) struct Trace {
    telemetry: Telemetry,
    id: RequestId,
    parent: Option<TraceParent>,
    /// Span ids follow from this and the index.
    seed: u64,
    begun: Instant,
    begun_unix_ns: u64,
    /// [`Class`] bits of this trace and of the callees that told us.
    bits: AtomicU8,
    /// Whether another service was asked.
    called: AtomicBool,
    state: Mutex<State>,
}

/// Makes a line of a trace that is kept, from the trace's id and the span's.
pub(crate) type HeldLine = Box<dyn FnOnce(&Telemetry, (RequestId, [u8; 8])) -> Option<Line> + Send>;

struct State {
    records: Vec<Record>,
    dropped: u32,
    ended: bool,
    lines: Vec<(u32, HeldLine)>,
    exemplars: Vec<Pending>,
}

/// One span. Times are nanoseconds after the trace began.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) parent: Option<u32>,
    pub(crate) begun: u64,
    pub(crate) ended: Option<u64>,
    pub(crate) attrs: Vec<(&'static str, AttrValue)>,
    pub(crate) events: Vec<(&'static str, u64)>,
    pub(crate) error: Option<&'static str>,
}

/// A decided trace on its way to the writer.
pub(crate) struct KeptTrace {
    pub(crate) id: RequestId,
    pub(crate) parent: Option<TraceParent>,
    pub(crate) seed: u64,
    pub(crate) begun_unix_ns: u64,
    pub(crate) flags: u8,
    pub(crate) threshold: Threshold,
    pub(crate) class: Class,
    pub(crate) head: bool,
    pub(crate) records: Vec<Record>,
    pub(crate) dropped: u32,
    pub(crate) resource: Arc<crate::export::Resource>,
}

impl Span {
    /// Records nothing, belongs to no trace.
    pub const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn root(
        telemetry: &Telemetry,
        name: &'static str,
        kind: Kind,
        parent: Option<TraceParent>,
        id: RequestId,
    ) -> Self {
        let id = parent.map_or(id, |parent| parent.trace_id);
        let begun = Instant::now();
        let trace = Trace {
            telemetry: telemetry.clone(),
            id,
            parent,
            seed: telemetry.span_seed(id),
            begun,
            begun_unix_ns: telemetry.unix_ns(begun),
            bits: AtomicU8::new(0),
            called: AtomicBool::new(false),
            state: Mutex::new(State {
                records: Vec::with_capacity(8),
                dropped: 0,
                ended: false,
                lines: Vec::new(),
                exemplars: Vec::new(),
            }),
        };
        trace.state.lock().records.push(Record::new(name, kind, None, 0));
        Self(Some(Handle { trace: Arc::new(trace), index: 0, recorded: true }))
    }

    pub fn child(&self, name: &'static str) -> Self {
        self.begin(name, Kind::Internal)
    }

    /// A call to another service. Its [`traceparent`](Self::traceparent) goes along.
    pub fn client(&self, name: &'static str) -> Self {
        if let Some(handle) = &self.0 {
            handle.trace.called.store(true, Relaxed);
        }
        self.begin(name, Kind::Client)
    }

    pub fn begin(&self, name: &'static str, kind: Kind) -> Self {
        let Some(handle) = &self.0 else { return Self::none() };
        let trace = &handle.trace;
        let now = trace.now();
        let mut state = trace.state.lock();
        if state.ended || state.records.len() >= MAX_SPANS {
            state.dropped += 1;
            drop(state);
            trace.telemetry.count_dropped_span();
            return Self(Some(Handle { recorded: false, ..handle.clone() }));
        }
        let index = state.records.len() as u32;
        state.records.push(Record::new(name, kind, Some(handle.index), now));
        Self(Some(Handle { trace: trace.clone(), index, recorded: true }))
    }

    /// The last value of a key stays. Beyond the bound nothing is kept.
    pub fn set(&self, key: &'static str, value: impl Into<AttrValue>) {
        self.with_record(|record, _| {
            let value = value.into();
            match record.attrs.iter().position(|(known, _)| *known == key) {
                Some(at) => record.attrs[at].1 = value,
                None if record.attrs.len() < MAX_ATTRS => record.attrs.push((key, value)),
                None => {}
            }
        });
    }

    pub fn event(&self, name: &'static str) {
        self.with_record(|record, now| {
            if record.events.len() < MAX_EVENTS {
                record.events.push((name, now));
            }
        });
    }

    /// This span is an error, and with it the trace: it will be kept.
    pub fn fail(&self, error_type: &'static str) {
        self.fail_softly(error_type);
        self.mark(Class::Error);
    }

    /// This span is an error, but one that is the caller's business (not found, invalid): the trace stays normal.
    pub fn fail_softly(&self, error_type: &'static str) {
        self.with_record(|record, _| {
            record.error.get_or_insert(error_type);
        });
    }

    /// The trace belongs to this class at least. A handled fallback marks [`Class::Error`].
    pub fn mark(&self, class: Class) {
        self.promote(class.bit());
    }

    pub(crate) fn promote(&self, bits: u8) {
        if let Some(handle) = &self.0 {
            handle.trace.bits.fetch_or(bits, Relaxed);
        }
    }

    /// Bits of the strong classes so far, for the verdict to the caller.
    pub(crate) fn verdict_bits(&self) -> u8 {
        self.0.as_ref().map_or(0, |handle| handle.trace.bits_now())
    }

    /// What an outgoing call carries. From the moment the trace is known to be kept, that includes the sampled bit.
    pub fn traceparent(&self) -> TraceParent {
        let Some(handle) = &self.0 else {
            return TraceParent { trace_id: RequestId::default(), span_id: [0; 8], flags: 0, threshold: None };
        };
        let trace = &handle.trace;
        let policy = trace.telemetry.policy();
        let random = trace.parent.map_or(TraceParent::RANDOM, |parent| parent.flags & TraceParent::RANDOM);
        let head = policy.normal.keeps(trace.id.randomness()).then_some(policy.normal);
        let promoted = (trace.bits_now() != 0).then_some(Threshold::ALWAYS);
        let threshold = [head, promoted, trace.caller_threshold()].into_iter().flatten().min();
        TraceParent {
            trace_id: trace.id,
            span_id: span_id(trace.seed, handle.index),
            flags: random | u8::from(threshold.is_some()),
            threshold,
        }
    }

    /// Zero when this belongs to no trace.
    pub fn trace_id(&self) -> RequestId {
        self.0.as_ref().map_or(RequestId::default(), |handle| handle.trace.id)
    }

    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Since this span began.
    pub fn elapsed(&self) -> Duration {
        let mut elapsed = Duration::ZERO;
        self.with_record(|record, now| elapsed = Duration::from_nanos(record.ended.unwrap_or(now) - record.begun));
        elapsed
    }

    /// Only the first end counts. Ending the local root decides the trace.
    pub fn end(&self) {
        let Some(handle) = &self.0 else { return };
        let now = self.with_record(|record, now| *record.ended.get_or_insert(now));
        if let (0, true, Some(now)) = (handle.index, handle.recorded, now) {
            handle.trace.finish(now);
        }
    }

    pub fn guard(self) -> SpanGuard {
        SpanGuard(self)
    }

    /// Remembers an observation, to become an exemplar if the trace is kept.
    pub(crate) fn on_keep(&self, pending: Pending) {
        if let Some(handle) = &self.0 {
            let mut state = handle.trace.state.lock();
            if !state.ended && state.exemplars.len() < MAX_SPANS {
                state.exemplars.push(pending);
            }
        }
    }

    /// Holds a log line until the verdict. A trace that has ended, or holds too many already, takes no more.
    pub(crate) fn hold_line(&self, line: HeldLine) {
        let Some(handle) = &self.0 else { return };
        let mut state = handle.trace.state.lock();
        if !state.ended && state.lines.len() < MAX_EVENTS {
            state.lines.push((handle.index, line));
        }
    }

    /// The ids that a line of this span carries.
    pub(crate) fn place(&self) -> Option<(RequestId, [u8; 8])> {
        self.0.as_ref().map(|handle| (handle.trace.id, span_id(handle.trace.seed, handle.index)))
    }

    fn with_record<R>(&self, change: impl FnOnce(&mut Record, u64) -> R) -> Option<R> {
        let handle = self.0.as_ref().filter(|handle| handle.recorded)?;
        let now = handle.trace.now();
        let mut state = handle.trace.state.lock();
        let record = state.records.get_mut(handle.index as usize)?;
        Some(change(record, now))
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(handle) => write!(f, "Span({}#{})", handle.trace.id, handle.index),
            None => f.write_str("Span(none)"),
        }
    }
}

impl Record {
    fn new(name: &'static str, kind: Kind, parent: Option<u32>, begun: u64) -> Self {
        Self { name, kind, parent, begun, ended: None, attrs: Vec::new(), events: Vec::new(), error: None }
    }
}

impl Trace {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Passing the slow limit promotes a trace before it ends.
    fn bits_now(&self) -> u8 {
        if self.begun.elapsed() > self.telemetry.slow_after() {
            self.bits.fetch_or(Class::Slow.bit(), Relaxed);
        }
        self.bits.load(Relaxed)
    }

    /// A caller that says sampled and not how likely it was counts as certain.
    fn caller_threshold(&self) -> Option<Threshold> {
        let parent = self.parent.filter(TraceParent::sampled)?;
        Some(parent.threshold.unwrap_or(Threshold::ALWAYS))
    }

    fn finish(&self, now: u64) {
        let (records, dropped, lines, exemplars) = {
            let mut state = self.state.lock();
            if state.ended {
                return;
            }
            state.ended = true;
            for record in state.records.iter_mut().filter(|record| record.ended.is_none()) {
                record.ended = Some(now);
                record.attrs.push(("unfinished", AttrValue::Bool(true)));
            }
            (
                std::mem::take(&mut state.records),
                state.dropped,
                std::mem::take(&mut state.lines),
                std::mem::take(&mut state.exemplars),
            )
        };
        if Duration::from_nanos(now) > self.telemetry.slow_after() {
            self.bits.fetch_or(Class::Slow.bit(), Relaxed);
        }
        let edge_only = self.telemetry.info().service == "edge" && !self.called.load(Relaxed);
        let sampled_class = if edge_only { Class::EdgeOnly } else { Class::Normal };
        let class = Class::of_bits(self.bits.load(Relaxed)).unwrap_or(sampled_class);
        let policy = self.telemetry.policy();
        let randomness = self.id.randomness();
        let verdict = policy.decide(class, randomness, self.caller_threshold());
        self.telemetry.count_decision(verdict);
        if !verdict.keep {
            return;
        }
        let at = (self.begun_unix_ns / 1_000_000) as i64;
        exemplars.into_iter().for_each(|pending| pending.keep(self.id, at));
        for (index, line) in lines {
            if let Some(line) = line(&self.telemetry, (self.id, span_id(self.seed, index))) {
                self.telemetry.write_line(line.weighted(verdict.threshold.weight()));
            }
        }
        let random = self.parent.map_or(TraceParent::RANDOM, |parent| parent.flags & TraceParent::RANDOM);
        self.telemetry.export(KeptTrace {
            id: self.id,
            parent: self.parent,
            seed: self.seed,
            begun_unix_ns: self.begun_unix_ns,
            flags: random | TraceParent::SAMPLED,
            threshold: verdict.threshold,
            class,
            head: policy.normal.keeps(randomness),
            records,
            dropped,
            resource: self.telemetry.resource(),
        });
    }
}

impl Drop for Trace {
    /// Nobody holds the root any more and nobody ended it: the work was dropped.
    fn drop(&mut self) {
        let now = self.now();
        let state = self.state.get_mut();
        if !state.ended {
            if let Some(root) = state.records.first_mut() {
                root.ended = Some(root.ended.unwrap_or(now));
                root.events.push(("cancelled", now));
            }
            self.finish(now);
        }
    }
}

/// SplitMix64 of the trace's seed and the span's number; never zero.
pub(crate) fn span_id(seed: u64, index: u32) -> [u8; 8] {
    crate::telemetry::mix(seed.wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15))).max(1).to_be_bytes()
}
