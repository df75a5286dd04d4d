//! What a process says about its own sampling. Read from the sampler at every tick, so that requests pay nothing for it.

use super::Sampler;
use crate::sampling::Threshold;
use crate::tail::Part;
use crate::{Counter, Gauge, Metrics};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub(crate) struct SamplingMetrics {
    /// Bytes, traces, spans.
    load: [Gauge; 3],
    stress: Gauge,
    short_wait: Gauge,
    governor: Gauge,
    lag: Gauge,
    evicted: Followed,
    refused: Followed,
    aged: Followed,
    published: Followed,
    applied: Followed,
    unmatched: Followed,
    lost: Followed,
}

impl SamplingMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        let evicted = |reason| {
            let help = "Local traces that were dropped, or not recorded, for want of room or of patience.";
            Followed::new(metrics.counter("trace_store_evicted_total", help, &[("reason", reason)]))
        };
        let bus = |name, help| Followed::new(metrics.counter(name, help, &[]));
        Self {
            load: [
                gauge("trace_store_bytes", "Memory set aside for traces in progress and traces that wait for a verdict."),
                gauge("trace_store_traces", "Traces in progress beyond this process, and traces that wait for a verdict."),
                gauge("trace_store_spans", "Spans that wait for a verdict."),
            ],
            stress: gauge("trace_stress_mode", "1 while local roots that the head does not want are not recorded."),
            short_wait: gauge("trace_short_wait", "1 while verdicts are waited for less long, for want of room."),
            governor: gauge("trace_governor_threshold", "Share of promotions that the error-storm governor turns down."),
            lag: gauge("trace_bus_lag_seconds", "Age of the oldest decision in the batch heard last."),
            evicted: evicted("oldest"),
            refused: evicted("full"),
            aged: evicted("age"),
            published: bus("trace_bus_published_total", "Decisions told to the other processes."),
            applied: bus("trace_bus_applied_total", "Decisions heard about traces that are here."),
            unmatched: bus("trace_bus_unmatched_total", "Decisions heard about traces that were settled otherwise before."),
            lost: bus("trace_bus_lost_total", "Decisions, or batches of a hub, known not to have arrived."),
        }
    }

    pub(crate) fn read<P: Part>(&self, sampler: &Sampler<P>, now: Duration) {
        let load = sampler.store.load().now();
        self.load.iter().zip(load).for_each(|(gauge, value)| gauge.set(value as f64));
        let pressure = sampler.store.pressure();
        self.stress.set(f64::from(u8::from(pressure.stress())));
        self.short_wait.set(f64::from(u8::from(pressure.short_wait())));
        let highest = sampler.governor.highest(now);
        self.governor.set(highest.bits() as f64 / Threshold::NEVER.bits() as f64);
        let [evicted, refused] = pressure.counts();
        self.evicted.follow(evicted);
        self.refused.follow(refused);
        let counts = &sampler.counts;
        self.aged.follow(counts.aged.load(Relaxed));
        self.published.follow(counts.published.load(Relaxed));
        self.applied.follow(counts.applied.load(Relaxed));
        self.unmatched.follow(counts.unmatched.load(Relaxed));
        self.lost.follow(sampler.outbox.lost());
        self.lag.set(counts.lag_ms.load(Relaxed) as f64 / 1e3);
    }
}

/// A counter that takes over a count kept elsewhere.
struct Followed {
    counter: Counter,
    seen: AtomicU64,
}

impl Followed {
    fn new(counter: Counter) -> Self {
        Self { counter, seen: AtomicU64::new(0) }
    }

    fn follow(&self, count: u64) {
        let before = self.seen.swap(count, Relaxed);
        self.counter.add(count.saturating_sub(before) as f64);
    }
}
