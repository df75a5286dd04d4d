//! Utilisation, saturation and errors of what the process runs on, read from `/proc`, the control group and `/sys`.

use super::{Applies, LabelKey, Unit, counter, entries, gauge};

const DEVICE: LabelKey = LabelKey::first("device", 6);
const DIRECTION: LabelKey = LabelKey::list("direction", &["receive", "transmit"]);
const GPU: LabelKey = LabelKey::first("gpu", 8);

entries! {
    CPU_USAGE: Gauge = gauge(
        "cpu_usage_percent", Unit::Percent, "CPU time of the process over what it may use, since the last look."
    )
        .per_process();
    CPU_THROTTLE: Counter = counter(
        "cpu_throttle_seconds_total", Unit::Seconds, "Time the control group was held back because its quota was used up."
    )
        .when(Applies::Hardware("cgroup cpu"))
        .per_process();
    CPU_LIMIT: Gauge = gauge("cpu_limit_cores", Unit::Count, "CPUs that the process may use.").per_process();
    MEMORY_USAGE: Gauge = gauge("memory_usage_bytes", Unit::Bytes, "Resident memory of the process.").per_process();
    MEMORY_LIMIT: Gauge = gauge(
        "memory_limit_bytes", Unit::Bytes, "Memory that the process may use: the control group's limit, or the machine's."
    )
        .per_process();
    MEMORY_OOM_KILLS: Counter = counter(
        "memory_oom_kills_total", Unit::Count, "Processes killed for want of memory in the control group, or on the machine."
    )
        .per_process();
    MEMORY_ERRORS: Counter = counter(
        "memory_errors_total", Unit::Count, "Memory errors that the hardware reported, corrected or not."
    )
        .when(Applies::Hardware("edac"))
        .per_process();
    GPU_UTILIZATION: Gauge = gauge("gpu_utilization_percent", Unit::Percent, "Share of time in which the GPU computed.")
        .labels(&[GPU])
        .when(Applies::Hardware("gpu"))
        .per_process();
    GPU_MEMORY_USED: Gauge = gauge("gpu_memory_used_bytes", Unit::Bytes, "Memory of the GPU in use.")
        .labels(&[GPU])
        .when(Applies::Hardware("gpu"))
        .per_process();
    GPU_ERRORS: Counter = counter("gpu_errors_total", Unit::Count, "Memory errors that the GPU could not correct.")
        .labels(&[GPU])
        .when(Applies::Hardware("gpu"))
        .per_process();
    NETWORK_BYTES: Counter = counter("network_bytes_total", Unit::Bytes, "Bytes over the network interfaces of the process.")
        .labels(&[DEVICE, DIRECTION])
        .per_process();
    NETWORK_SPEED: Gauge = gauge("network_speed_bytes", Unit::Bytes, "Bytes a second that the interface can carry each way.")
        .labels(&[DEVICE])
        .when(Applies::Hardware("link speed"))
        .per_process();
    NETWORK_QUEUE: Gauge = gauge(
        "network_queue_length", Unit::Count, "Packets received and not yet looked at by the kernel, over all CPUs."
    )
        .per_process();
    NETWORK_ERRORS: Counter = counter(
        "network_errors_total", Unit::Count, "Packets that were damaged or dropped at the network interfaces."
    )
        .labels(&[DEVICE, DIRECTION])
        .per_process();
    DISK_USAGE: Gauge = gauge(
        "disk_usage_percent", Unit::Percent, "Share of the file system in use that holds the working folder."
    )
        .per_process();
    DISK_IO_WAIT: Gauge = gauge(
        "disk_io_wait", Unit::Ratio, "Share of time in which some task waited for a disk, over the last 10 s."
    )
        .when(Applies::Hardware("pressure stall information"))
        .per_process();
    DISK_ERRORS: Counter = counter("disk_errors_total", Unit::Count, "Errors that the file systems of the machine found.")
        .when(Applies::Hardware("ext4"))
        .per_process();
    PROCESS_START: Gauge = gauge("process_start_time_seconds", Unit::UnixTime, "When the process began.").per_process();
    PROCESS_CPU: Counter = counter("process_cpu_seconds_total", Unit::Seconds, "User and system time.").per_process();
    PROCESS_RESIDENT: Gauge = gauge("process_resident_memory_bytes", Unit::Bytes, "Resident memory.").per_process();
    PROCESS_VIRTUAL: Gauge = gauge("process_virtual_memory_bytes", Unit::Bytes, "Virtual memory.").per_process();
    PROCESS_OPEN_FILES: Gauge = gauge("process_open_fds", Unit::Count, "Open file descriptors.").per_process();
    PROCESS_MAX_FILES: Gauge = gauge("process_max_fds", Unit::Count, "Most file descriptors.").per_process();
    PROCESS_THREADS: Gauge = gauge("process_threads", Unit::Count, "Threads.").per_process();
}
