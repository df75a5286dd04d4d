//! The end of a local trace: it waits for its verdict, is counted, and leaves for the exporters or the pool.

use crate::buffers::{Buffers, Subtree};
use crate::catalogue::names::{
    TRACE_DECISIONS, TRACE_HOLD_WAIT, TRACE_LATE_SPANS, TRACE_REWEIGHTED, TRACE_SUBTREE_MISSING,
};
use crate::export::{Lane, Resource};
use crate::grpc::Method;
use crate::log::Judged;
use crate::sampling::{Base, Outcome, Threshold};
use crate::tail::{Part, Settled};
use crate::trace::{Finished, span_id};
use crate::{Class, Telemetry};
use std::sync::Arc;
use std::time::Duration;

/// A decided trace on its way out. Its buffers go back to the pool when the last exporter is done with it.
pub(crate) struct KeptTrace {
    pub(crate) telemetry: Telemetry,
    pub(crate) finished: Finished,
    pub(crate) begun_unix_ns: u64,
    pub(crate) threshold: Threshold,
    pub(crate) class: Class,
    /// Whether the provisional decision at the root already was to keep it.
    pub(crate) head: bool,
}

/// What waits for a verdict: a local trace, and the service that it is of.
pub(crate) struct Held {
    pub(crate) telemetry: Telemetry,
    pub(crate) finished: Finished,
}

impl Part for Held {
    fn bytes(&self) -> usize {
        size_of::<Self>() - size_of::<Finished>() + self.finished.bytes()
    }

    fn spans(&self) -> usize {
        self.finished.buffers.records.len()
    }

    fn randomness(&self) -> u64 {
        self.finished.standing.randomness()
    }

    fn floor(&self) -> Threshold {
        self.finished.standing.floor()
    }
}

impl Telemetry {
    /// The end of every recorded local trace.
    pub(crate) fn settle(&self, finished: Finished) {
        let standing = finished.standing.clone();
        let edge_only = self.info().service == "edge" && !finished.called;
        let base = if edge_only { Base::EdgeOnly } else { Base::Normal };
        if let Some(outcome) = self.with_sampler(|sampler, now, _| sampler.end_alone(&standing, base, now)) {
            return send(self, finished, outcome, Duration::ZERO);
        }
        let held = Held { telemetry: self.clone(), finished };
        self.with_sampler(|sampler, now, out| sampler.end(&standing, held, now, out));
    }

    /// Spans of a local trace that has ended before them.
    pub(crate) fn settle_late(&self, finished: Finished) {
        let (id, spans) = (finished.id, finished.buffers.records.len());
        let held = Held { telemetry: self.clone(), finished };
        let late = self.with_sampler(|sampler, now, out| sampler.late(id, held, now, out));
        self.count_late(late, spans);
    }
}

/// Sends what was settled where it belongs.
pub(crate) fn dispatch(settled: Vec<Settled<Held>>) {
    for Settled { part: Held { telemetry, finished }, outcome, waited } in settled {
        send(&telemetry, finished, outcome, waited);
    }
}

fn send(telemetry: &Telemetry, finished: Finished, outcome: Outcome, waited: Duration) {
    if !finished.late {
        telemetry.count_decision(outcome, &finished, waited);
    }
    let standing = &finished.standing;
    let judged = Judged { randomness: standing.randomness(), floor: standing.floor(), outcome };
    for (span, line) in &finished.buffers.lines {
        telemetry.settle_line(line, (finished.id, span_id(finished.seed, *span)), &judged);
    }
    if outcome.keep {
        keep(telemetry.clone(), finished, outcome);
    } else {
        telemetry.pool().put(finished.buffers);
    }
}

fn keep(telemetry: Telemetry, mut finished: Finished, outcome: Outcome) {
    let begun_unix_ns = telemetry.unix_ns(finished.begun);
    let at = (begun_unix_ns / 1_000_000) as i64;
    for pending in finished.buffers.exemplars.drain(..) {
        pending.keep(finished.id, at);
    }
    for record in finished.buffers.records.iter().filter(|record| record.subtree == Subtree::Unrecorded) {
        telemetry.count_missing_subtree(Method::find_full(record.name).map_or("other", |method| method.owner));
    }
    let head = telemetry.policy().head(finished.standing.randomness());
    let Outcome { threshold, class, .. } = outcome;
    telemetry.clone().export(KeptTrace { telemetry, finished, begun_unix_ns, threshold, class, head });
}

impl KeptTrace {
    pub(crate) fn lane(&self) -> Lane {
        if self.class.bit() != 0 { Lane::Promoted } else { Lane::Sampled }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() - size_of::<Finished>() + self.finished.bytes()
    }

    pub(crate) fn resource(&self) -> &Arc<Resource> {
        self.telemetry.resource()
    }
}

impl Drop for KeptTrace {
    fn drop(&mut self) {
        let buffers: Box<Buffers> = std::mem::take(&mut self.finished.buffers);
        self.telemetry.pool().put(buffers);
    }
}

/// One service's counts of what became of its traces.
pub(crate) struct DecisionMetrics {
    decisions: [[crate::Counter; 2]; Class::ALL.len()],
    reweighted: [crate::Counter; Class::ALL.len()],
    late: [crate::Counter; 4],
    missing: Vec<(&'static str, crate::Counter)>,
    waited: crate::Histogram,
}

const CALLEES: [&str; 7] = ["origin", "retrieval", "ranking", "bandit", "llm", "embedder", "other"];

impl DecisionMetrics {
    pub(crate) fn new(metrics: &crate::Metrics) -> Self {
        let decisions = Class::ALL
            .map(|class| ["drop", "keep"].map(|verdict| metrics.counter(&TRACE_DECISIONS, &[class.as_str(), verdict])));
        let reweighted = Class::ALL.map(|class| metrics.counter(&TRACE_REWEIGHTED, &[class.as_str()]));
        // In the order of `tail::Late`.
        let late = ["held", "keep", "drop", "unknown"].map(|verdict| metrics.counter(&TRACE_LATE_SPANS, &[verdict]));
        let missing = CALLEES.map(|callee| (callee, metrics.counter(&TRACE_SUBTREE_MISSING, &[callee])));
        let waited = metrics.histogram(&TRACE_HOLD_WAIT, &[]);
        Self { decisions, reweighted, late, missing: missing.into(), waited }
    }
}

impl Telemetry {
    fn count_decision(&self, outcome: Outcome, finished: &Finished, waited: Duration) {
        let metrics = self.decisions();
        metrics.decisions[outcome.class as usize][usize::from(outcome.keep)].inc();
        if !waited.is_zero() {
            metrics.waited.observe(waited.as_secs_f64());
        }
        let normal = self.policy().normal;
        if normal.keeps(finished.standing.randomness()) && outcome.threshold < normal {
            metrics.reweighted[outcome.class as usize].inc();
        }
    }

    fn count_late(&self, late: crate::tail::Late, spans: usize) {
        self.decisions().late[late as usize].add(spans as f64);
    }

    fn count_missing_subtree(&self, callee: &'static str) {
        if let Some((_, counter)) = self.decisions().missing.iter().find(|(known, _)| *known == callee) {
            counter.inc();
        }
    }
}
