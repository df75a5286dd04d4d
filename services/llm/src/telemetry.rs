//! Every metric and span of this service, beside the request metrics of the gRPC layer.

use crate::budget::{NanoDollars, Tokens, dollars};
use crate::generate::{Ended, GenerateError};
use attune_telemetry::catalogue::{self, Service, names};
use attune_telemetry::{By, Class, Counter, Estimate, Gauge, Histogram, Metrics, Name, Span, labels};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

labels! {
    /// Why the template answered although a back-end is configured.
    pub enum Fallback {
        /// No factor speaks for the item, so there is nothing to put into words.
        NoFactors = "no_factors",
        /// The caller's deadline leaves no time to ask.
        NoTime = "no_time",
        /// Too many calls are running and waiting.
        Busy = "busy",
        /// The day's budget is spent or reserved.
        Budget = "budget",
        /// The back-end failed too often just now.
        CircuitOpen = "circuit_open",
        Unreachable = "unreachable",
        Timeout = "timeout",
        RateLimited = "rate_limited",
        /// The back-end answered with another error, or with something that is no answer.
        BackendError = "backend_error",
        /// The answer broke off before its first sentence ended.
        CutOff = "cut_off",
        /// The back-end refused to answer.
        Refused = "refused",
        /// The answer says more than the factors do, or is no plain sentence.
        Ungrounded = "ungrounded",
    }
}

impl Fallback {
    /// The back-end's fault, as opposed to a bound of ours or a text that was refused.
    pub const fn is_backend_error(self) -> bool {
        match self {
            Self::Unreachable | Self::Timeout | Self::RateLimited | Self::BackendError | Self::CutOff => true,
            Self::NoFactors | Self::NoTime | Self::Busy | Self::Budget | Self::CircuitOpen => false,
            Self::Refused | Self::Ungrounded => false,
        }
    }
}

/// The model did not do its part; the request counts as an error of the service although the template answered it.
fn error_code(why: Fallback) -> Option<&'static str> {
    match why {
        Fallback::Timeout => Some("DEADLINE_EXCEEDED"),
        Fallback::RateLimited => Some("RESOURCE_EXHAUSTED"),
        Fallback::CircuitOpen => Some("UNAVAILABLE"),
        why => why.is_backend_error().then_some("UNAVAILABLE"),
    }
}

impl From<GenerateError> for Fallback {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::Unreachable => Self::Unreachable,
            GenerateError::RateLimited => Self::RateLimited,
            GenerateError::Status(_) | GenerateError::Reported | GenerateError::Malformed(_) => Self::BackendError,
            GenerateError::CutOff => Self::CutOff,
        }
    }
}

labels! {
    /// How a call of the back-end went.
    pub enum Outcome {
        Ok = "ok",
        /// Its last sentence was dropped, what came before was used.
        Shortened = "shortened",
        Rejected = "rejected",
        Error = "error",
        /// The caller went away.
        Cancelled = "cancelled",
    }
}

labels! {
    pub enum Lookup { Hit = "hit", Miss = "miss" }
}

#[derive(Clone)]
pub struct LlmMetrics {
    calls: By<Outcome, Counter>,
    fallbacks: By<Fallback, Counter>,
    errors: By<Fallback, Option<Counter>>,
    lookups: By<Lookup, Counter>,
    first_text: Histogram,
    response_tokens: Histogram,
    cost: Counter,
    budget: Gauge,
    spent_today: Gauge,
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    circuit_open: Gauge,
    invoked: Arc<Share>,
    cached: Arc<Share>,
}

impl LlmMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        let share = |entry| Arc::new(Share { window: Mutex::default(), share: metrics.estimate(entry, &[]) });
        // The gRPC layer by itself sees no error where the template answers.
        let errors = |why| {
            let code = error_code(why)?;
            Some(metrics.counter(&catalogue::red(Service::Llm)?.errors, &["reason", code]))
        };
        Self {
            calls: metrics.counter_by(&names::LLM_CALLS),
            fallbacks: metrics.counter_by(&names::LLM_FALLBACKS),
            errors: By::new(errors),
            lookups: metrics.counter_by(&names::LLM_CACHE_LOOKUPS),
            first_text: metrics.histogram(&names::LLM_FIRST_CHUNK, &[]),
            response_tokens: metrics.histogram(&names::LLM_RESPONSE_TOKENS, &[]),
            cost: metrics.counter(&names::LLM_COST, &[]),
            budget: metrics.gauge(&names::LLM_BUDGET, &[]),
            spent_today: metrics.gauge(&names::LLM_BUDGET_SPENT, &[]),
            running: metrics.gauge(&names::LLM_RUNNING, &[]),
            waiting: metrics.gauge(&names::LLM_QUEUE, &[]),
            circuit_open: metrics.gauge(&names::LLM_CIRCUIT_OPEN, &[]),
            invoked: share(&names::LLM_INVOCATION_RATE),
            cached: share(&names::LLM_CACHE_HIT_RATE),
        }
    }

    pub(crate) fn looked_up(&self, result: Lookup) {
        self.lookups.get(result).inc();
        self.cached.add(result == Lookup::Hit);
    }

    pub(crate) fn answered(&self, called_backend: bool) {
        self.invoked.add(called_backend);
    }

    pub(crate) fn fell_back(&self, why: Fallback) {
        self.fallbacks.get(why).inc();
        if let Some(errors) = self.errors.get(why) {
            errors.inc();
        }
    }

    pub(crate) fn call_ended(&self, outcome: Outcome, output_tokens: u32) {
        self.calls.get(outcome).inc();
        if output_tokens > 0 {
            self.response_tokens.observe(f64::from(output_tokens));
        }
    }

    pub(crate) fn first_chunk(&self, after: Duration) {
        self.first_text.observe(after.as_secs_f64());
    }

    pub(crate) fn spent(&self, cost: NanoDollars) {
        self.cost.add(dollars(cost));
    }

    pub(crate) fn budget_is(&self, daily: NanoDollars, spent_today: NanoDollars) {
        self.budget.set(dollars(daily));
        self.spent_today.set(dollars(spent_today));
    }

    pub(crate) fn circuit_is(&self, closed: bool) {
        self.circuit_open.set(if closed { 0.0 } else { 1.0 });
    }
}

/// A share over the last [`Share::WINDOW`] observations.
struct Share {
    window: Mutex<Window>,
    share: Estimate,
}

#[derive(Default)]
struct Window {
    seen: std::collections::VecDeque<bool>,
    yes: u32,
}

impl Share {
    const WINDOW: usize = 1000;

    fn add(&self, yes: bool) {
        let mut window = self.window.lock();
        window.seen.push_back(yes);
        window.yes += u32::from(yes);
        if window.seen.len() > Self::WINDOW && window.seen.pop_front() == Some(true) {
            window.yes -= 1;
        }
        let samples = window.seen.len();
        self.share.set(f64::from(window.yes) / samples as f64, samples as u64);
    }
}

/// The CLIENT span around one call of the back-end. Its attributes say nothing of what was asked or answered.
pub(crate) struct ChatSpan {
    span: Span,
    metrics: LlmMetrics,
    output_tokens: AtomicU32,
    outcome: Mutex<Outcome>,
}

impl ChatSpan {
    pub(crate) fn begin(parent: &Span, metrics: &LlmMetrics, model: &Name, max_tokens: u32) -> Self {
        let span = parent.client("chat");
        span.set("gen_ai.operation.name", "chat");
        span.set("gen_ai.provider.name", "openai");
        span.set("gen_ai.request.model", model);
        span.set("gen_ai.request.max_tokens", max_tokens);
        metrics.running.inc();
        Self {
            span,
            metrics: metrics.clone(),
            output_tokens: AtomicU32::new(0),
            outcome: Mutex::new(Outcome::Cancelled),
        }
    }

    pub(crate) fn first_chunk(&self, after: Duration) {
        self.span.set("gen_ai.response.time_to_first_chunk", after);
        self.metrics.first_chunk(after);
    }

    pub(crate) fn tokens(&self, tokens: Tokens) {
        self.span.set("gen_ai.usage.input_tokens", tokens.input);
        self.span.set("gen_ai.usage.output_tokens", tokens.output);
        self.output_tokens.store(tokens.output, Ordering::Relaxed);
    }

    pub(crate) fn finished(&self, ended: &Ended) {
        self.span.set("gen_ai.response.finish_reasons", ended.finish.as_str());
    }

    pub(crate) fn outcome(&self, outcome: Outcome) {
        *self.outcome.lock() = outcome;
    }

    pub(crate) fn failed(&self, why: Fallback) {
        self.outcome(Outcome::Error);
        self.span.fail_softly(attune_telemetry::Label::text(why));
    }
}

impl Drop for ChatSpan {
    fn drop(&mut self) {
        let outcome = *self.outcome.lock();
        if outcome == Outcome::Cancelled {
            self.span.event("cancelled");
        }
        self.metrics.running.dec();
        self.metrics.call_ended(outcome, self.output_tokens.load(Ordering::Relaxed));
        self.span.end();
    }
}

/// Marks the request's own span with what answered.
pub(crate) fn describe(span: &Span, model: &Name, tokens: Tokens, cached: bool, fallback: Option<Fallback>) {
    span.mark(Class::Llm);
    span.set("model", model);
    span.set("tokens", tokens.input.saturating_add(tokens.output));
    span.set("cached", cached);
    if let Some(why) = fallback {
        span.degrade(attune_telemetry::Label::text(why));
    }
}
