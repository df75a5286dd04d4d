//! Disks: how full, how waited for, how broken.

use super::Kernel;
use attune_telemetry::catalogue::names;
use attune_telemetry::{Counter, Gauge, KnownGauge, Metrics};

const EXT4: &str = "sys/fs/ext4";

pub(super) struct Disk {
    kernel: Kernel,
    usage: KnownGauge,
    io_wait: Option<Gauge>,
    errors: Option<Counter>,
}

impl Disk {
    pub(super) fn new(kernel: Kernel, metrics: &Metrics) -> Self {
        let io_wait = pressure(&kernel).map(|_| metrics.gauge(&names::DISK_IO_WAIT, &[]));
        if io_wait.is_none() {
            metrics.absent(&names::DISK_IO_WAIT);
        }
        let errors = errors(&kernel).map(|_| metrics.counter(&names::DISK_ERRORS, &[]));
        if errors.is_none() {
            metrics.absent(&names::DISK_ERRORS);
        }
        Self { kernel, usage: metrics.known_gauge(&names::DISK_USAGE, &[]), io_wait, errors }
    }

    pub(super) fn sample(&mut self) {
        self.usage.set(usage());
        if let (Some(gauge), Some(share)) = (&self.io_wait, pressure(&self.kernel)) {
            gauge.set(share);
        }
        if let (Some(counter), Some(errors)) = (&self.errors, errors(&self.kernel)) {
            counter.catch_up(errors);
        }
    }
}

/// As df counts: what only the superuser may use is neither used nor free.
fn usage() -> Option<f64> {
    let system = rustix::fs::statvfs(".").ok()?;
    let used = system.f_blocks.saturating_sub(system.f_bfree) as f64;
    let all = used + system.f_bavail as f64;
    (all > 0.0).then(|| 100.0 * used / all)
}

/// `some avg10=1.53 avg60=...` is in percent.
fn pressure(kernel: &Kernel) -> Option<f64> {
    let text = kernel.text("proc/pressure/io")?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent: f64 = some.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()?;
    Some(percent / 100.0)
}

/// Of every ext4 file system; None where there is none.
fn errors(kernel: &Kernel) -> Option<f64> {
    let systems = kernel.names(EXT4);
    systems.iter().filter_map(|name| kernel.number(&format!("{EXT4}/{name}/errors_count"))).reduce(|a, b| a + b)
}
