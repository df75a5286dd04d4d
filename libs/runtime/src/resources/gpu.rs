//! NVIDIA GPUs, through the driver's own library, which is looked for at run time.

use attune_telemetry::catalogue::names;
use attune_telemetry::{Counter, Gauge, Metrics};
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};

pub(super) struct Gpu {
    driver: Option<Nvml>,
    devices: Vec<Device>,
}

struct Device {
    index: u32,
    utilization: Gauge,
    memory: Gauge,
    /// None where error correction is off.
    errors: Option<Counter>,
}

impl Gpu {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let driver = Nvml::init().ok();
        let count = driver.as_ref().and_then(|driver| driver.device_count().ok()).unwrap_or(0);
        if count == 0 {
            metrics.absent(&names::GPU_UTILIZATION);
            metrics.absent(&names::GPU_MEMORY_USED);
            metrics.absent(&names::GPU_ERRORS);
        }
        let device = |index: u32| {
            let gpu = index.to_string();
            let labels = [gpu.as_str()];
            let corrects = driver.as_ref().and_then(|driver| errors(driver, index)).is_some();
            Device {
                index,
                utilization: metrics.gauge(&names::GPU_UTILIZATION, &labels),
                memory: metrics.gauge(&names::GPU_MEMORY_USED, &labels),
                errors: corrects.then(|| metrics.counter(&names::GPU_ERRORS, &labels)),
            }
        };
        let devices = (0..count).map(device).collect();
        Self { driver, devices }
    }

    pub(super) fn sample(&mut self) {
        let Some(driver) = &self.driver else { return };
        for device in &self.devices {
            let Ok(found) = driver.device_by_index(device.index) else { continue };
            if let Ok(rates) = found.utilization_rates() {
                device.utilization.set(f64::from(rates.gpu));
            }
            if let Ok(memory) = found.memory_info() {
                device.memory.set(memory.used as f64);
            }
            if let (Some(counter), Some(errors)) = (&device.errors, errors(driver, device.index)) {
                counter.catch_up(errors);
            }
        }
    }
}

fn errors(driver: &Nvml, index: u32) -> Option<f64> {
    let device = driver.device_by_index(index).ok()?;
    device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Aggregate).ok().map(|count| count as f64)
}
