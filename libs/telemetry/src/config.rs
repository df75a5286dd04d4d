//! What an operator can set.

use attune_config::{ByteSize, HumanDuration, Secret};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    Stdout,
    Stderr,
    Off,
    File(PathBuf),
}

/// Which per-request lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestLogs {
    /// Those whose trace is kept and a share of the others, with their weight.
    Sampled,
    All,
}

/// What is recorded at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    All,
    /// No span, no per-request line, no exemplar and no metric. What is logged besides still is.
    None,
}

/// Settings of traces, metrics and logs of one process. Every key has a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// `none` is there to measure what recording costs; nobody sees a process that runs with it.
    pub record: Record,
    /// File of OTLP JSON lines, one export request each; none: traces are recorded, decided and not written.
    pub traces: Option<PathBuf>,
    /// Address of an OTLP/gRPC receiver, such as `http://127.0.0.1:4317` (or `unix:/path`), that gets the kept traces; as well as the file.
    pub otlp: Option<String>,
    /// How long one call to that receiver may take. What it does not take for a minute is dropped and counted.
    pub otlp_timeout: HumanDuration,
    /// A trace or log file beyond this size is renamed to `<name>.1` (which is replaced) and begun anew.
    pub file_limit: ByteSize,
    /// Where log lines go: `stdout`, `stderr`, `off` or `{ file = "PATH" }`.
    pub logs: LogTarget,
    /// The least important lines that are written: `trace`, `debug`, `info`, `warn` or `error`.
    pub log_level: crate::LogLevel,
    /// Which per-request lines are written: `sampled` (those whose trace is kept and a share of the others) or `all`.
    pub request_logs: RequestLogs,
    /// Share of normal traces that are kept.
    pub sample_normal: f64,
    /// Share of traces kept that never left the edge.
    pub sample_edge_only: f64,
    /// Share of the requests without a kept trace whose line is written all the same.
    pub sample_logs: f64,
    /// The same at the edge, where most requests are.
    pub sample_logs_edge: f64,
    /// Longer local roots are always kept.
    pub slow_after: HumanDuration,
    /// Errors, slow and llm traces that are kept for certain, a second and process. Above it, a known share is.
    pub promoted_per_second: u32,
    /// Memory for traces in progress and traces that wait for a verdict. None: 64 MiB, at the edge 16 MiB.
    pub tail_limit: Option<ByteSize>,
    /// How long an ended part of a trace waits for a verdict from elsewhere; under pressure it is one second at most.
    pub tail_wait: HumanDuration,
    /// How promotions reach the other processes: `hub` hosts the bus, an address (`http://host:port` or `unix:/path`)
    /// is that of the host. None: there are no other processes.
    pub decision_bus: Option<String>,
    /// Memory that may wait for each writer thread.
    pub queue_limit: ByteSize,
    /// Verifies the `x-pz-debug` tokens with which an operator has the edge keep single traces. None: there are none.
    pub debug_key: Option<Secret>,
    /// Keys `user_id_hash`; the same in every process whose logs should join. None: the hash says `none`.
    /// What [`LogKey::encode`](crate::LogKey::encode) wrote, or any other secret (whose hashes stay derivable).
    pub log_key: Option<Secret>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            record: Record::All,
            traces: None,
            otlp: None,
            otlp_timeout: HumanDuration::secs(10),
            file_limit: ByteSize(256 << 20),
            logs: LogTarget::Stderr,
            log_level: crate::LogLevel::Info,
            request_logs: RequestLogs::Sampled,
            sample_normal: 0.01,
            sample_edge_only: 0.001,
            sample_logs: 0.01,
            sample_logs_edge: 0.001,
            slow_after: HumanDuration::millis(200),
            promoted_per_second: 200,
            tail_limit: None,
            tail_wait: HumanDuration::secs(5),
            decision_bus: None,
            queue_limit: ByteSize(8 << 20),
            debug_key: None,
            log_key: None,
        }
    }
}
