//! The machine under a run, and what else it was doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

/// Such as `2 cores, Intel(R) Xeon(R) Processor`.
pub(crate) fn name() -> String {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{cores} cores, {}", model.map_or("unknown", |(_, model)| model.trim()))
}

/// Mean of runnable and waiting tasks over the last minute, everybody's.
pub(crate) fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Jiffies of all cores: busy, and all.
fn jiffies() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let parts: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // The first eight are disjoint; the fourth and the fifth are idle and waiting for disks.
    let all = parts.iter().take(8).sum::<u64>();
    Some((all - parts.get(3)? - parts.get(4)?, all))
}

/// Watches the machine during a run.
pub(crate) struct Watch {
    before: Option<f64>,
    stop: Arc<AtomicBool>,
    watching: JoinHandle<Vec<f64>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) load_before: Option<f64>,
    pub(crate) load_after: Option<f64>,
    /// Share of the cores that was busy, each second, whoever kept them so.
    pub(crate) busy: Vec<f64>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let watching = thread::spawn(move || {
            let mut busy = Vec::new();
            let mut last = jiffies();
            while !told.load(Ordering::Relaxed) {
                thread::sleep(EVERY);
                let now = jiffies();
                if let (Some((busy_before, all_before)), Some((busy_now, all_now))) = (last, now)
                    && all_now > all_before
                {
                    busy.push((busy_now - busy_before) as f64 / (all_now - all_before) as f64);
                }
                last = now;
            }
            busy
        });
        Self { before: load_average(), stop, watching }
    }

    pub(crate) fn end(self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        let busy = self.watching.join().unwrap_or_default();
        Watched { load_before: self.before, load_after: load_average(), busy }
    }
}

impl Watched {
    /// Such as `0.4 to 1.9`.
    pub(crate) fn load(&self) -> String {
        let text = |load: Option<f64>| load.map_or("?".to_owned(), |load| format!("{load:.1}"));
        format!("{} to {}", text(self.load_before), text(self.load_after))
    }
}
