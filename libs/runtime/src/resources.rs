//! Utilisation, saturation and errors of what the process runs on, sampled every few seconds.
//!
//! Always holds: what the kernel, the control group or the hardware does not expose is absent, never a zero that looks
//! like health; its `_samples` says so.

mod cgroup;
mod disk;
mod gpu;
mod memory;
mod network;
mod process;

use crate::Shutdown;
use attune_telemetry::Telemetry;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(5);

/// Where the kernel speaks: `/`, or a copy of its files.
#[derive(Debug, Clone)]
struct Kernel(PathBuf);

impl Kernel {
    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    fn number(&self, path: &str) -> Option<f64> {
        self.text(path)?.trim().parse().ok()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Names in a folder, in order; none when it is not there.
    fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(path)) else { return Vec::new() };
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }
}

/// The value after a key in lines of `key value`.
fn after(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix([' ', ':', '\t']))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The metrics of one process, on the registry of one of its services.
pub struct Resources {
    process: process::Process,
    memory: memory::Memory,
    network: network::Network,
    disk: disk::Disk,
    gpu: gpu::Gpu,
}

impl Resources {
    pub fn new(telemetry: &Telemetry) -> Self {
        Self::reading(Path::new("/"), telemetry)
    }

    /// The same over a copy of `/proc` and `/sys` that lies elsewhere.
    pub fn reading(root: &Path, telemetry: &Telemetry) -> Self {
        let (kernel, metrics) = (Kernel(root.into()), telemetry.metrics());
        let group = cgroup::Group::find(&kernel);
        Self {
            process: process::Process::new(kernel.clone(), &group, telemetry),
            memory: memory::Memory::new(kernel.clone(), &group, metrics),
            network: network::Network::new(kernel.clone(), metrics),
            disk: disk::Disk::new(kernel, metrics),
            gpu: gpu::Gpu::new(metrics),
        }
    }

    /// Reads everything once. Takes about a millisecond, so not for an async thread.
    pub fn sample(&mut self) {
        self.process.sample();
        self.memory.sample();
        self.network.sample();
        self.disk.sample();
        self.gpu.sample();
    }
}

/// Samples until the shutdown, where anything is recorded. Once per process; the first sample is there when this returns.
pub async fn watch(telemetry: &Telemetry, shutdown: &Shutdown) {
    if !telemetry.records() {
        return;
    }
    let (telemetry, shutdown) = (telemetry.clone(), shutdown.clone());
    let first = tokio::task::spawn_blocking(move || {
        let mut resources = Resources::new(&telemetry);
        resources.sample();
        Arc::new(Mutex::new(resources))
    });
    // Only a panic while reading; then there is nothing to go on with.
    let Ok(resources) = first.await else { return };
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let resources = Arc::clone(&resources);
            if tokio::task::spawn_blocking(move || resources.lock().sample()).await.is_err() {
                return;
            }
        }
    });
}
