//! Network interfaces of the process's namespace.

use super::Kernel;
use attune_telemetry::catalogue::names;
use attune_telemetry::{Counter, Gauge, KnownGauge, Metrics};
use std::collections::BTreeMap;

/// Interfaces beyond these are not looked at.
const MAX_DEVICES: usize = 6;

pub(super) struct Network {
    kernel: Kernel,
    metrics: Metrics,
    devices: BTreeMap<String, Device>,
    queue: KnownGauge,
}

struct Device {
    bytes: [Counter; 2],
    errors: [Counter; 2],
    speed: Option<Gauge>,
}

impl Network {
    pub(super) fn new(kernel: Kernel, metrics: &Metrics) -> Self {
        metrics.absent(&names::NETWORK_SPEED);
        let queue = metrics.known_gauge(&names::NETWORK_QUEUE, &[]);
        Self { kernel, metrics: metrics.clone(), devices: BTreeMap::new(), queue }
    }

    pub(super) fn sample(&mut self) {
        for (name, counts) in self.kernel.text("proc/self/net/dev").iter().flat_map(|text| devices(text)) {
            let speed = self.kernel.number(&format!("sys/class/net/{name}/speed")).filter(|megabits| *megabits > 0.0);
            if !self.devices.contains_key(name) {
                // Interfaces that never carried anything are not worth a series.
                if self.devices.len() >= MAX_DEVICES || counts.bytes == [0.0; 2] {
                    continue;
                }
                self.devices.insert(name.to_owned(), Device::new(&self.metrics, name, speed.is_some()));
            }
            if let Some(device) = self.devices.get(name) {
                device.set(&counts, speed);
            }
        }
        self.queue.set(self.kernel.text("proc/net/softnet_stat").and_then(|text| backlog(&text)));
    }
}

impl Device {
    fn new(metrics: &Metrics, name: &str, has_speed: bool) -> Self {
        let directions = ["receive", "transmit"];
        Self {
            bytes: directions.map(|direction| metrics.counter(&names::NETWORK_BYTES, &[name, direction])),
            errors: directions.map(|direction| metrics.counter(&names::NETWORK_ERRORS, &[name, direction])),
            speed: has_speed.then(|| metrics.gauge(&names::NETWORK_SPEED, &[name])),
        }
    }

    fn set(&self, counts: &Counts, speed: Option<f64>) {
        for direction in 0..2 {
            self.bytes[direction].catch_up(counts.bytes[direction]);
            self.errors[direction].catch_up(counts.errors[direction]);
        }
        if let (Some(gauge), Some(megabits)) = (&self.speed, speed) {
            gauge.set(megabits * 1e6 / 8.0);
        }
    }
}

/// Received and sent.
struct Counts {
    bytes: [f64; 2],
    /// Damaged and dropped ones.
    errors: [f64; 2],
}

/// Lines of `/proc/net/dev`: a name, eight counts received, eight sent.
fn devices(text: &str) -> impl Iterator<Item = (&str, Counts)> {
    text.lines().filter_map(|line| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<f64> = counts.split_whitespace().map_while(|count| count.parse().ok()).collect();
        let at = |index: usize| counts.get(index).copied();
        let bytes = [at(0)?, at(8)?];
        let errors = [at(2)? + at(3)?, at(10)? + at(11)?];
        Some((name.trim(), Counts { bytes, errors }))
    })
}

/// Packets waiting, over all CPUs: the twelfth field of each line, which kernels before 5.10 do not have.
fn backlog(text: &str) -> Option<f64> {
    let waiting = text.lines().map(|line| {
        let field = line.split_whitespace().nth(11)?;
        u64::from_str_radix(field, 16).ok()
    });
    waiting.sum::<Option<u64>>().map(|packets| packets as f64)
}
