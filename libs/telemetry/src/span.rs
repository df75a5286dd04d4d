//! Handles on the spans of one local trace. Hot path.
//!
//! A trace ends with its local root; what is still open then is closed with it and marked `unfinished`. A root that is
//! dropped without an end closes as `cancelled`. The bounds are those of [`crate::buffers`].

use crate::buffers::{Buffers, OPEN, Subtree};
use crate::context::Context;
use crate::grpc::Subtrace;
use crate::log::HeldLine;
use crate::metrics::Pending;
use crate::trace::{Trace, span_id};
use crate::{AttrValue, Baggage, Class, Telemetry, TraceParent};
use attune_domain::RequestId;
use std::sync::Arc;
use std::time::Duration;

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
    index: u8,
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

/// Several attributes of one span in one step: see [`Span::with`].
pub struct Attributes<'a> {
    buffers: &'a mut Buffers,
    span: u8,
}

impl Attributes<'_> {
    /// The last value of a key stays. Beyond the bound nothing is kept.
    #[inline]
    pub fn set<'v>(&mut self, key: &'static str, value: impl Into<AttrValue<'v>>) -> &mut Self {
        self.buffers.set(self.span, key, value.into());
        self
    }
}

impl Span {
    /// Records nothing, belongs to no trace.
    pub const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn root(telemetry: &Telemetry, name: &'static str, kind: Kind, id: RequestId, context: Context) -> Self {
        Self(Some(Handle {
            trace: Arc::new(Trace::begin(telemetry, name, kind, id, context)),
            index: 0,
            recorded: true,
        }))
    }

    pub fn child(&self, name: &'static str) -> Self {
        self.begin(name, Kind::Internal)
    }

    /// A call to another service. Its [`traceparent`](Self::traceparent) goes along.
    pub fn client(&self, name: &'static str) -> Self {
        if let Some(handle) = &self.0 {
            handle.trace.note_call();
        }
        self.begin(name, Kind::Client)
    }

    pub fn begin(&self, name: &'static str, kind: Kind) -> Self {
        let Some(handle) = &self.0 else { return Self::none() };
        let trace = &handle.trace;
        let now = trace.now();
        let begun = trace.state.lock().as_mut().map(|buffers| buffers.begin(name, kind, handle.index, now));
        let trace = match begun {
            Some(Some(index)) => return Self(Some(Handle { trace: trace.clone(), index, recorded: true })),
            Some(None) => {
                trace.telemetry.count_dropped_span();
                None
            }
            None => Trace::late(trace, handle.index, name, kind),
        };
        match trace {
            Some(trace) => Self(Some(Handle { trace: Arc::new(trace), index: 0, recorded: true })),
            None => Self(Some(Handle { recorded: false, ..handle.clone() })),
        }
    }

    /// The last value of a key stays. Beyond the bound nothing is kept.
    #[inline]
    pub fn set<'v>(&self, key: &'static str, value: impl Into<AttrValue<'v>>) {
        let value = value.into();
        self.with_buffers(|buffers, span| buffers.set(span, key, value));
    }

    /// Sets several attributes for the price of one.
    #[inline]
    pub fn with(&self, set: impl FnOnce(&mut Attributes<'_>)) {
        self.with_buffers(|buffers, span| set(&mut Attributes { buffers, span }));
    }

    pub fn event(&self, name: &'static str) {
        let Some(handle) = &self.0 else { return };
        let now = handle.trace.now();
        self.with_buffers(|buffers, span| buffers.event(span, name, now));
    }

    /// Another trace has to do with this span: a caller whose context is not trusted, the message a batch began with.
    pub fn link(&self, to: TraceParent) {
        self.with_buffers(|buffers, span| buffers.link(span, to.trace_id, to.span_id));
    }

    /// This span is an error, and with it the trace: it will be kept.
    pub fn fail(&self, error_type: &'static str) {
        self.fail_softly(error_type);
        self.mark(Class::Error);
    }

    /// This span is an error, but one that is the caller's business (not found, invalid): the trace stays normal.
    pub fn fail_softly(&self, error_type: &'static str) {
        self.with_buffers(|buffers, span| {
            if let Some(record) = buffers.open(span) {
                record.error.get_or_insert(error_type);
            }
        });
    }

    /// The trace belongs to this class at least: it is kept, as far as the budget of promotions allows.
    pub fn mark(&self, class: Class) {
        if let Some(handle) = &self.0 {
            handle.trace.promote(class);
        }
    }

    /// A fallback was served here instead of what was meant to be. For a service and reason, one trace a second is
    /// promoted for that.
    pub fn degrade(&self, reason: &'static str) {
        self.event("degraded");
        self.set("fallback", reason);
        if let Some(handle) = &self.0 {
            handle.trace.degrade(reason);
        }
    }

    /// What the service that this CLIENT span called said about its part of the trace; None as long as it has not.
    pub(crate) fn answered(&self, subtrace: Option<Subtrace>) {
        let Some(handle) = &self.0 else { return };
        let subtree = subtrace.map_or(Subtree::Requested, |subtrace| handle.trace.learn(subtrace));
        self.with_buffers(|buffers, span| {
            if let Some(record) = buffers.open(span) {
                record.subtree = subtree;
            }
        });
    }

    /// What this service answers its caller.
    pub(crate) fn subtrace(&self) -> Option<Subtrace> {
        self.0.as_ref().map(|handle| handle.trace.subtrace())
    }

    /// What an outgoing call carries. From the moment the trace is known to be kept, that includes the sampled bit.
    pub fn traceparent(&self) -> TraceParent {
        match &self.0 {
            Some(handle) => handle.trace.traceparent(handle.index),
            None => TraceParent::NONE,
        }
    }

    /// Everything an outgoing call carries: this span as the parent, other members of `tracestate`, and the baggage.
    pub fn inject(&self, into: &mut impl crate::CarrierMut) {
        if let Some(handle) = &self.0 {
            handle.trace.traceparent(handle.index).inject_with(handle.trace.tracestate(), into);
            if let Some(baggage) = handle.trace.baggage.get() {
                baggage.inject(into);
            }
        }
    }

    /// Gives the trace what its calls carry along; the first to do so counts.
    pub fn carry(&self, baggage: Baggage) {
        if let Some(handle) = &self.0 {
            handle.trace.baggage.get_or_init(|| baggage);
        }
    }

    pub fn baggage(&self) -> Option<&Baggage> {
        self.0.as_ref()?.trace.baggage.get()
    }

    /// Zero when this belongs to no trace.
    pub fn trace_id(&self) -> RequestId {
        self.0.as_ref().map_or(RequestId::default(), |handle| handle.trace.id)
    }

    /// Whether somebody else began the trace.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.0.as_ref().is_some_and(|handle| handle.trace.is_asked_for())
    }

    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Since this span began; of one that is not recorded, since its local root did.
    pub fn elapsed(&self) -> Duration {
        let Some(handle) = &self.0 else { return Duration::ZERO };
        let now = handle.trace.now();
        let times = self.with_buffers(|buffers, span| {
            buffers.records.get(usize::from(span)).map(|record| (record.begun, record.ended))
        });
        match times.flatten() {
            Some((begun, ended)) => handle.trace.span_of(begun, if ended == OPEN { now } else { ended }),
            None => handle.trace.span_of(handle.trace.begun, now),
        }
    }

    /// Only the first end counts. Ending the local root decides the trace.
    pub fn end(&self) {
        let Some(handle) = self.0.as_ref().filter(|handle| handle.recorded) else { return };
        let now = handle.trace.now();
        if handle.index == 0 {
            return handle.trace.finish(now);
        }
        self.with_buffers(|buffers, span| {
            if let Some(record) = buffers.open(span) {
                record.ended = now;
            }
        });
    }

    pub fn guard(self) -> SpanGuard {
        SpanGuard(self)
    }

    /// Remembers an observation, to become an exemplar if the trace is kept.
    pub(crate) fn on_keep(&self, pending: Pending) {
        let _too_many = self.with_trace(|buffers| buffers.hold_exemplar(pending));
    }

    /// Holds a log line until the verdict. A trace that has ended, or holds too many already, takes no more.
    pub(crate) fn hold_line(&self, line: HeldLine) {
        let Some(handle) = &self.0 else { return };
        let _too_many = self.with_trace(|buffers| buffers.hold_line(handle.index, line));
    }

    /// The ids that a line of this span carries.
    pub(crate) fn place(&self) -> Option<(RequestId, [u8; 8])> {
        self.0.as_ref().map(|handle| (handle.trace.id, span_id(handle.trace.seed, handle.index)))
    }

    /// None when this span is not recorded, or its trace has ended.
    #[inline]
    fn with_buffers<R>(&self, change: impl FnOnce(&mut Buffers, u8) -> R) -> Option<R> {
        let handle = self.0.as_ref().filter(|handle| handle.recorded)?;
        handle.trace.state.lock().as_mut().map(|buffers| change(buffers, handle.index))
    }

    fn with_trace<R>(&self, change: impl FnOnce(&mut Buffers) -> R) -> Option<R> {
        self.0.as_ref()?.trace.state.lock().as_mut().map(|buffers| change(buffers))
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
