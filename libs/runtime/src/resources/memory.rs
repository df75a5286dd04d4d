//! Memory of the control group and the machine: its limit, kills for want of it, errors in it.

use super::cgroup::Group;
use super::{Kernel, after};
use attune_telemetry::catalogue::names;
use attune_telemetry::{Counter, Gauge, Metrics};

const CONTROLLERS: &str = "sys/devices/system/edac/mc";

pub(super) struct Memory {
    kernel: Kernel,
    group: Group,
    limit: Gauge,
    oom_kills: Counter,
    errors: Option<Counter>,
}

impl Memory {
    pub(super) fn new(kernel: Kernel, group: &Group, metrics: &Metrics) -> Self {
        let errors = match errors(&kernel) {
            Some(_) => Some(metrics.counter(&names::MEMORY_ERRORS, &[])),
            None => {
                metrics.absent(&names::MEMORY_ERRORS);
                None
            }
        };
        Self {
            kernel,
            group: group.clone(),
            limit: metrics.gauge(&names::MEMORY_LIMIT, &[]),
            oom_kills: metrics.counter(&names::MEMORY_OOM_KILLS, &[]),
            errors,
        }
    }

    pub(super) fn sample(&mut self) {
        let machine = self.kernel.text("proc/meminfo").and_then(|text| after(&text, "MemTotal"));
        let machine = machine.map(|kib| kib * 1024.0);
        if let Some(limit) = [self.group.memory_limit(), machine].into_iter().flatten().reduce(f64::min) {
            self.limit.set(limit);
        }
        let machine = || after(&self.kernel.text("proc/vmstat")?, "oom_kill");
        if let Some(kills) = self.group.oom_kills().or_else(machine) {
            self.oom_kills.catch_up(kills);
        }
        if let (Some(counter), Some(errors)) = (&self.errors, errors(&self.kernel)) {
            counter.catch_up(errors);
        }
    }
}

/// Corrected and uncorrected ones of all memory controllers; None where none reports.
fn errors(kernel: &Kernel) -> Option<f64> {
    let controllers = kernel.names(CONTROLLERS);
    let counts = controllers
        .iter()
        .filter(|name| name.starts_with("mc"))
        .flat_map(|name| ["ce_count", "ue_count"].map(|count| kernel.number(&format!("{CONTROLLERS}/{name}/{count}"))));
    counts.flatten().reduce(|a, b| a + b)
}
