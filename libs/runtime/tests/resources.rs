//! Resources read from a copy of the kernel's files, and from the machine itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_runtime::resources::Resources;
use attune_telemetry::encode::{Format, encode};
use attune_telemetry::{Guard, LogTarget, ServiceInfo, Telemetry, TelemetryConfig};
use std::fs;
use std::path::Path;
use std::sync::Arc;

struct World {
    telemetry: Telemetry,
    resources: Resources,
    _guard: Guard,
}

fn world(root: &Path) -> World {
    let config = TelemetryConfig { logs: LogTarget::Off, ..TelemetryConfig::default() };
    let info = ServiceInfo { service: "edge", version: "1", instance: "test".into() };
    let (telemetry, guard) = Telemetry::start(&config, info, Arc::new(|| 1_769_682_600_123)).unwrap();
    let resources = Resources::reading(root, &telemetry);
    World { telemetry, resources, _guard: guard }
}

impl World {
    fn sample(&mut self) {
        self.resources.sample();
    }

    fn value(&self, series: &str) -> Option<f64> {
        let text = encode(std::slice::from_ref(&self.telemetry), Format::Text);
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}

fn kernel(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    files.iter().for_each(|(path, text)| put(root.path(), path, text));
    root
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

const STAT: &str =
    "7 (at) tune) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 12 0 100 9 9 9 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
const STATUS: &str = "Name:\tattune\nVmSize:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t12\n";

#[test]
fn a_group_of_version_two() {
    let group = "sys/fs/cgroup/kube/pod1";
    let root = kernel(&[
        ("proc/self/cgroup", "0::/kube/pod1\n"),
        ("proc/self/stat", STAT),
        ("proc/self/status", STATUS),
        ("proc/self/limits", "Limit  Soft Limit Hard Limit Units\nMax open files            1024  4096  files\n"),
        ("proc/meminfo", "MemTotal:  4096 kB\n"),
        (&format!("{group}/cpu.stat"), "usage_usec 9\nthrottled_usec 2500000\n"),
        (&format!("{group}/cpu.max"), "50000 100000\n"),
        (&format!("{group}/memory.stat"), "anon 1\n"),
        (&format!("{group}/memory.max"), "2097152\n"),
        (&format!("{group}/memory.events"), "oom 5\noom_kill 3\n"),
    ]);
    let mut world = world(root.path());
    world.sample();
    for (series, wanted) in [
        ("process_cpu_seconds_total", 3.0),
        ("process_threads", 12.0),
        ("process_resident_memory_bytes", 1_048_576.0),
        ("memory_usage_bytes", 1_048_576.0),
        ("process_max_fds", 1024.0),
        ("cpu_limit_cores", 0.5),
        ("cpu_throttle_seconds_total", 2.5),
        ("memory_limit_bytes", 2_097_152.0),
        ("memory_oom_kills_total", 3.0),
    ] {
        assert_eq!(world.value(series), Some(wanted), "{series}");
    }
    put(root.path(), &format!("{group}/cpu.stat"), "throttled_usec 4000000\n");
    put(root.path(), "proc/self/stat", &STAT.replace(" 250 ", " 350 "));
    world.sample();
    assert_eq!(world.value("cpu_throttle_seconds_total"), Some(4.0));
    assert_eq!(world.value("process_cpu_seconds_total"), Some(4.0));
    assert!(world.value("cpu_usage_percent").unwrap() > 0.0, "a second of CPU was used in less");
}

#[test]
fn a_group_of_version_one_without_limits() {
    let root = kernel(&[
        ("proc/self/cgroup", "4:memory:/job\n2:cpu,cpuacct:/\n0::/\n"),
        ("proc/meminfo", "MemTotal:  4096 kB\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.stat", "nr_periods 0\nthrottled_time 1500000000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        // The group's path leads nowhere inside of a container.
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\noom_kill 2\n"),
    ]);
    let mut world = world(root.path());
    world.sample();
    assert_eq!(world.value("cpu_throttle_seconds_total"), Some(1.5));
    assert_eq!(world.value("memory_oom_kills_total"), Some(2.0));
    assert_eq!(world.value("memory_limit_bytes"), Some(4096.0 * 1024.0), "the machine's");
    assert!(world.value("cpu_limit_cores").unwrap() >= 1.0);
}

#[test]
fn devices_and_their_errors() {
    let dev = "Inter-| Receive | Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
               lo: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0\n\
               eth0:1000 9 2 3 0 0 0 0 500 8 1 4 0 0 0 0\n\
               ifb0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    let root = kernel(&[
        ("proc/self/net/dev", dev),
        ("sys/class/net/eth0/speed", "10000\n"),
        ("sys/class/net/lo/speed", "-1\n"),
        ("proc/net/softnet_stat", "1 0 0 0 0 0 0 0 0 0 0 00000003 0\n1 0 0 0 0 0 0 0 0 0 0 0000000a 1\n"),
        ("proc/pressure/io", "some avg10=12.50 avg60=0.17 avg300=0.37 total=4446517\nfull avg10=0.00\n"),
        ("sys/fs/ext4/vda/errors_count", "2\n"),
        ("sys/devices/system/edac/mc/mc0/ce_count", "5\n"),
        ("sys/devices/system/edac/mc/mc0/ue_count", "1\n"),
    ]);
    let mut world = world(root.path());
    world.sample();
    for (series, wanted) in [
        (r#"network_bytes_total{device="eth0",direction="receive"}"#, Some(1000.0)),
        (r#"network_bytes_total{device="eth0",direction="transmit"}"#, Some(500.0)),
        (r#"network_errors_total{device="eth0",direction="receive"}"#, Some(5.0)),
        (r#"network_errors_total{device="eth0",direction="transmit"}"#, Some(5.0)),
        (r#"network_bytes_total{device="ifb0",direction="receive"}"#, None),
        (r#"network_speed_bytes{device="eth0"}"#, Some(1.25e9)),
        (r#"network_speed_bytes{device="lo"}"#, None),
        ("network_queue_length", Some(13.0)),
        ("disk_io_wait", Some(0.125)),
        ("disk_errors_total", Some(2.0)),
        ("memory_errors_total", Some(6.0)),
    ] {
        assert_eq!(world.value(series), wanted, "{series}");
    }
}

#[test]
fn what_nobody_exposes_is_absent() {
    let root = kernel(&[]);
    let mut world = world(root.path());
    world.sample();
    for name in [
        "cpu_throttle_seconds_total",
        "memory_errors_total",
        "disk_io_wait",
        "disk_errors_total",
        "network_speed_bytes",
    ] {
        assert_eq!(world.value(name), None, "{name}");
        assert_eq!(world.value(&format!("{name}_samples")), Some(0.0), "{name}");
    }
    assert_eq!(world.value("network_queue_length"), None);
}

#[test]
fn this_machine_says_something() {
    let mut world = world(Path::new("/"));
    world.sample();
    for name in ["process_resident_memory_bytes", "memory_limit_bytes", "process_open_fds", "disk_usage_percent"] {
        assert!(world.value(name).is_some_and(|value| value > 0.0), "{name}");
    }
    assert_eq!(
        world.value("gpu_utilization_percent_samples").is_some(),
        world.value(r#"gpu_utilization_percent{gpu="0"}"#).is_none(),
        "a GPU speaks, or is said to be absent"
    );
}
