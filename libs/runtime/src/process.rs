//! What the process uses, read from `/proc` when somebody asks for metrics.

use attune_telemetry::{Counter, Gauge, Telemetry};
use parking_lot::Mutex;
use std::time::Instant;

/// `process_*` as every Prometheus client has them, and the contract's `cpu_usage_percent` and `memory_usage_bytes`.
/// One per process, on the registry of one of its services.
pub struct ProcessMetrics {
    cpu_seconds: Counter,
    cpu_percent: Gauge,
    resident: Gauge,
    memory: Gauge,
    virtual_memory: Gauge,
    open_files: Gauge,
    max_files: Gauge,
    threads: Gauge,
    last: Mutex<Option<(Instant, f64)>>,
}

impl ProcessMetrics {
    pub fn new(telemetry: &Telemetry) -> Self {
        let metrics = telemetry.metrics();
        let started = metrics.gauge("process_start_time_seconds", "When the process began, in Unix time.", &[]);
        started.set(telemetry.now() as f64 / 1e3);
        Self {
            cpu_seconds: metrics.counter("process_cpu_seconds_total", "User and system time.", &[]),
            cpu_percent: metrics.gauge("cpu_usage_percent", "Of one core, since the last scrape.", &[]),
            resident: metrics.gauge("process_resident_memory_bytes", "Resident memory.", &[]),
            memory: metrics.gauge("memory_usage_bytes", "Resident memory.", &[]),
            virtual_memory: metrics.gauge("process_virtual_memory_bytes", "Virtual memory.", &[]),
            open_files: metrics.gauge("process_open_fds", "Open file descriptors.", &[]),
            max_files: metrics.gauge("process_max_fds", "Most file descriptors.", &[]),
            threads: metrics.gauge("process_threads", "Threads.", &[]),
            last: Mutex::new(None),
        }
    }

    /// Reads `/proc`; what cannot be read stays as it was.
    pub fn refresh(&self) {
        if let Some(usage) = usage() {
            let now = Instant::now();
            let mut last = self.last.lock();
            if let Some((at, before)) = *last {
                let wall = now.duration_since(at).as_secs_f64();
                if wall > 0.0 {
                    self.cpu_percent.set(100.0 * (usage.cpu_seconds - before).max(0.0) / wall);
                }
            }
            *last = Some((now, usage.cpu_seconds));
            self.cpu_seconds.add(usage.cpu_seconds - self.cpu_seconds.get());
            self.resident.set(usage.resident);
            self.memory.set(usage.resident);
            self.virtual_memory.set(usage.virtual_memory);
            self.threads.set(usage.threads);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(files.count() as f64);
        }
        if let Some(most) = max_files() {
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
fn usage() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    // Linux counts in hundredths of a second on every target we build for; pages are asked of the kernel's own totals.
    const TICKS: f64 = 100.0;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    Some(Usage {
        cpu_seconds: (field(14)? + field(15)?) / TICKS,
        resident: kib("VmRSS:")? * 1024.0,
        virtual_memory: kib("VmSize:")? * 1024.0,
        threads: field(20)?,
    })
}

fn max_files() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
