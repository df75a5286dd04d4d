//! What a process says about its own sampling. Read from the sampler at every tick, so that requests pay nothing for it.

use super::Sampler;
use crate::catalogue::names::{
    TRACE_BUS_APPLIED, TRACE_BUS_LAG, TRACE_BUS_LOST, TRACE_BUS_PUBLISHED, TRACE_BUS_UNMATCHED, TRACE_GOVERNOR,
    TRACE_SHORT_WAIT, TRACE_STORE_BYTES, TRACE_STORE_EVICTED, TRACE_STORE_LIMIT, TRACE_STORE_SPANS, TRACE_STORE_TRACES,
    TRACE_STRESS,
};
use crate::sampling::Threshold;
use crate::tail::Part;
use crate::{Counter, Gauge, Metrics};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub(crate) struct SamplingMetrics {
    /// Bytes, traces, spans.
    load: [Gauge; 3],
    limit: Gauge,
    stress: Gauge,
    short_wait: Gauge,
    governor: Gauge,
    lag: Gauge,
    evicted: Followed,
    refused: Followed,
    aged: Followed,
    promoted: Followed,
    published: Followed,
    applied: Followed,
    unmatched: Followed,
    lost: Followed,
}

impl SamplingMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let gauge = |entry| metrics.gauge(entry, &[]);
        let evicted = |reason| Followed::new(metrics.counter(&TRACE_STORE_EVICTED, &[reason]));
        let bus = |entry| Followed::new(metrics.counter(entry, &[]));
        Self {
            load: [gauge(&TRACE_STORE_BYTES), gauge(&TRACE_STORE_TRACES), gauge(&TRACE_STORE_SPANS)],
            limit: gauge(&TRACE_STORE_LIMIT),
            stress: gauge(&TRACE_STRESS),
            short_wait: gauge(&TRACE_SHORT_WAIT),
            governor: gauge(&TRACE_GOVERNOR),
            lag: gauge(&TRACE_BUS_LAG),
            evicted: evicted("oldest"),
            refused: evicted("full"),
            aged: evicted("age"),
            promoted: evicted("promoted"),
            published: bus(&TRACE_BUS_PUBLISHED),
            applied: bus(&TRACE_BUS_APPLIED),
            unmatched: bus(&TRACE_BUS_UNMATCHED),
            lost: bus(&TRACE_BUS_LOST),
        }
    }

    pub(crate) fn read<P: Part>(&self, sampler: &Sampler<P>, now: Duration) {
        let load = sampler.store.load().now();
        self.load.iter().zip(load).for_each(|(gauge, value)| gauge.set(value as f64));
        self.limit.set(sampler.store.limit_bytes() as f64);
        let pressure = sampler.store.pressure();
        self.stress.set(f64::from(u8::from(pressure.stress())));
        self.short_wait.set(f64::from(u8::from(pressure.short_wait())));
        let highest = sampler.governor.highest(now);
        self.governor.set(highest.bits() as f64 / Threshold::NEVER.bits() as f64);
        let [evicted, refused] = pressure.counts();
        self.evicted.follow(evicted);
        self.refused.follow(refused);
        self.promoted.follow(pressure.promoted());
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
