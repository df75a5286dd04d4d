//! The process's own share of CPU and memory, from `/proc/self`.

use super::cgroup::Group;
use super::{Kernel, after};
use attune_telemetry::catalogue::names;
use attune_telemetry::{Counter, Gauge, Telemetry};
use std::time::Instant;

pub(super) struct Process {
    kernel: Kernel,
    group: Group,
    cpu_seconds: Counter,
    cpu_percent: Gauge,
    cpu_limit: Gauge,
    throttled: Option<Counter>,
    resident: Gauge,
    memory: Gauge,
    virtual_memory: Gauge,
    open_files: Gauge,
    max_files: Gauge,
    threads: Gauge,
    last: Option<(Instant, f64)>,
}

impl Process {
    pub(super) fn new(kernel: Kernel, group: &Group, telemetry: &Telemetry) -> Self {
        let metrics = telemetry.metrics();
        metrics.gauge(&names::PROCESS_START, &[]).set(telemetry.now() as f64 / 1e3);
        let throttled = match group.throttled() {
            Some(_) => Some(metrics.counter(&names::CPU_THROTTLE, &[])),
            None => {
                metrics.absent(&names::CPU_THROTTLE);
                None
            }
        };
        Self {
            kernel,
            group: group.clone(),
            cpu_seconds: metrics.counter(&names::PROCESS_CPU, &[]),
            cpu_percent: metrics.gauge(&names::CPU_USAGE, &[]),
            cpu_limit: metrics.gauge(&names::CPU_LIMIT, &[]),
            throttled,
            resident: metrics.gauge(&names::PROCESS_RESIDENT, &[]),
            memory: metrics.gauge(&names::MEMORY_USAGE, &[]),
            virtual_memory: metrics.gauge(&names::PROCESS_VIRTUAL, &[]),
            open_files: metrics.gauge(&names::PROCESS_OPEN_FILES, &[]),
            max_files: metrics.gauge(&names::PROCESS_MAX_FILES, &[]),
            threads: metrics.gauge(&names::PROCESS_THREADS, &[]),
            last: None,
        }
    }

    pub(super) fn sample(&mut self) {
        let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let limit = self.group.cpus().map_or(cores, |quota| quota.min(cores));
        self.cpu_limit.set(limit);
        if let (Some(throttled), Some(seconds)) = (&self.throttled, self.group.throttled()) {
            throttled.catch_up(seconds);
        }
        if let Some(usage) = usage(&self.kernel) {
            let now = Instant::now();
            if let Some((at, before)) = self.last {
                let wall = now.duration_since(at).as_secs_f64().max(1e-3);
                self.cpu_percent.set(100.0 * (usage.cpu_seconds - before).max(0.0) / (wall * limit));
            }
            self.last = Some((now, usage.cpu_seconds));
            self.cpu_seconds.catch_up(usage.cpu_seconds);
            self.resident.set(usage.resident);
            self.memory.set(usage.resident);
            self.virtual_memory.set(usage.virtual_memory);
            self.threads.set(usage.threads);
        }
        self.open_files.set(self.kernel.names("proc/self/fd").len() as f64);
        if let Some(most) = self.kernel.text("proc/self/limits").and_then(|limits| max_files(&limits)) {
            self.max_files.set(most);
        }
    }
}

struct Usage {
    cpu_seconds: f64,
    resident: f64,
    virtual_memory: f64,
    threads: f64,
}

/// Fields of `/proc/self/stat` after the command's closing bracket, numbered as in proc(5).
fn usage(kernel: &Kernel) -> Option<Usage> {
    let stat = kernel.text("proc/self/stat")?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    // Linux counts in hundredths of a second on every target we build for.
    const TICKS: f64 = 100.0;
    let status = kernel.text("proc/self/status")?;
    Some(Usage {
        cpu_seconds: (field(14)? + field(15)?) / TICKS,
        resident: after(&status, "VmRSS")? * 1024.0,
        virtual_memory: after(&status, "VmSize")? * 1024.0,
        threads: field(20)?,
    })
}

fn max_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
