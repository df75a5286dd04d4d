//! Explanations and what they cost.

use super::Service::{Embedder, Llm};
use super::{Applies, LLM_LATENCY_BUCKETS, LabelKey, Unit, counter, entries, estimate, gauge, histogram};

entries! {
    LLM_CALLS: Counter = counter("llm_backend_calls_total", Unit::Count, "Calls of the model back-end.")
        .labels(&[LabelKey::list("outcome", &["ok", "shortened", "rejected", "error", "cancelled"])])
        .by(&[Llm]);
    LLM_FALLBACKS: Counter = counter(
        "llm_fallbacks_total", Unit::Count, "Answers by the template although a back-end is configured, by reason."
    )
        .labels(&[LabelKey::list("reason", &[
            "no_factors", "no_time", "busy", "budget", "circuit_open", "unreachable", "timeout", "rate_limited",
            "backend_error", "cut_off", "refused", "ungrounded",
        ])])
        .by(&[Llm]);
    LLM_CACHE_LOOKUPS: Counter = counter("llm_cache_lookups_total", Unit::Count, "Look-ups of finished explanations.")
        .labels(&[LabelKey::list("result", &["hit", "miss"])])
        .by(&[Llm]);
    LLM_FIRST_CHUNK: Histogram = histogram(
        "llm_time_to_first_chunk_seconds",
        Unit::Seconds,
        LLM_LATENCY_BUCKETS,
        "From the call of the back-end to its first chunk.",
    )
        .by(&[Llm]);
    LLM_RESPONSE_TOKENS: Histogram = histogram(
        "llm_response_tokens",
        Unit::Count,
        &[8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 512.0],
        "Output tokens of a call.",
    )
        .by(&[Llm]);
    LLM_COST: Counter = counter("llm_cost_dollars_total", Unit::Dollars, "Dollars spent by the price table.").by(&[Llm]);
    LLM_BUDGET: Gauge = gauge("llm_budget_dollars", Unit::Dollars, "Daily budget.").by(&[Llm]);
    LLM_BUDGET_SPENT: Gauge = gauge(
        "llm_budget_spent_dollars", Unit::Dollars, "Dollars spent of today's budget, when last asked."
    )
        .by(&[Llm]);
    LLM_RUNNING: Gauge = gauge("llm_backend_calls_running", Unit::Count, "Calls of the back-end now running.").by(&[Llm]);
    LLM_QUEUE: Gauge = gauge("llm_queue_depth", Unit::Count, "Requests waiting for a call to end.").by(&[Llm]);
    LLM_CIRCUIT_OPEN: Gauge = gauge(
        "llm_circuit_open", Unit::Flag, "1 while the back-end is not asked because it kept failing."
    )
        .by(&[Llm]);
    LLM_INVOCATION_RATE: Estimate = estimate(
        "llm_invocation_rate", Unit::Ratio, 20, "Share of the last 1000 explanations for which the back-end was called."
    )
        .by(&[Llm]);
    LLM_CACHE_HIT_RATE: Estimate = estimate(
        "llm_cache_hit_rate", Unit::Ratio, 20, "Share of the last 1000 look-ups that found an explanation."
    )
        .by(&[Llm]);
    LLM_QUALITY: Estimate = estimate(
        "llm_quality_score", Unit::Score, 50, "Mean judged quality of explanations, 1 to 5."
    )
        .when(Applies::Stream)
        .by(&[Embedder]);
}
