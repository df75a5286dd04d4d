//! What becomes of a local trace that has ended: its class, its verdict, and the way of a kept one to the exporters.

use crate::buffers::Buffers;
use crate::export::{Lane, Resource};
use crate::sampling::{Threshold, Verdict};
use crate::trace::{Finished, span_id};
use crate::{Class, Telemetry};
use std::sync::Arc;

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

impl Telemetry {
    /// The end of every recorded local trace.
    pub(crate) fn settle(&self, finished: Finished) {
        let edge_only = self.info().service == "edge" && !finished.called;
        let sampled_class = if edge_only { Class::EdgeOnly } else { Class::Normal };
        let class = Class::of_bits(finished.bits).unwrap_or(sampled_class);
        let randomness = finished.context.randomness(finished.id);
        let verdict = self.policy().decide(class, randomness, finished.context.threshold());
        self.count_decision(verdict);
        if verdict.keep {
            self.keep(finished, verdict);
        } else {
            self.pool().put(finished.buffers);
        }
    }

    fn keep(&self, mut finished: Finished, verdict: Verdict) {
        let begun_unix_ns = self.unix_ns(finished.begun);
        let at = (begun_unix_ns / 1_000_000) as i64;
        for pending in finished.buffers.exemplars.drain(..) {
            pending.keep(finished.id, at);
        }
        for (span, line) in finished.buffers.lines.drain(..) {
            if let Some(line) = line(self, (finished.id, span_id(finished.seed, span))) {
                self.write_line(line.weighted(verdict.threshold.weight()));
            }
        }
        let head = self.policy().normal.keeps(finished.context.randomness(finished.id));
        let (threshold, class) = (verdict.threshold, verdict.class);
        self.export(KeptTrace { telemetry: self.clone(), finished, begun_unix_ns, threshold, class, head });
    }
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
