//! Starting, sharing and flushing; everything a service holds of telemetry.

use crate::buffers::Pool;
use crate::bus::{Decision, DecisionBus, DecisionSink};
use crate::catalogue::names::{LOG_DROPPED, LOG_SUPPRESSED, TRACE_SPANS_DROPPED};
use crate::context::Context;
use crate::door::{DebugDoor, Rejections};
use crate::export::{Collector, ExportMetrics, Exporters, Resource, TraceFile};
use crate::hash::{LogKeyError, Purpose};
use crate::log::{HeldLine, Judged, LogCounters, Logs, Notice, Place, RequestEvent, Source};
use crate::sampler::{Sampler, SamplingMetrics};
use crate::sampling::{Policy, Threshold};
use crate::settle::{DecisionMetrics, Held, KeptTrace, dispatch};
use crate::sink::{DropCounters, Output};
use crate::sweeper::Sweeper;
use crate::tail::{Settled, TailLimits};
use crate::ticks::Ticks;
use crate::{Counter, Kind, LogTarget, Metrics, Record, Span, TelemetryConfig, TraceParent, UserHash};
use attune_domain::{RequestId, Uid, UnixMillis};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Where wall-clock time comes from.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// How far the monotonic clock may walk away from the wall clock before span times are anchored anew.
const MAX_DRIFT_NS: u64 = 50_000_000;
/// How long a dropped guard waits for the writers.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

const LEAST_TAIL: usize = 1 << 20;
/// Traces in progress beyond their process, or waiting.
const MAX_TRACES: usize = 65_536;
/// A trace in progress is watched this long.
const MAX_AGE: Duration = Duration::from_secs(30);
/// How long a verdict is waited for under pressure.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// Which service of which version this is, and which copy of it.
#[derive(Debug, Clone)]
pub struct ServiceInfo {
    /// `edge`, `origin`, `retrieval`, `ranking`, `bandit`, `llm` or `embedder`.
    pub service: &'static str,
    pub version: &'static str,
    pub instance: String,
}

impl ServiceInfo {
    /// Prefix of the service's request metrics: the origin's is `api`.
    pub fn metric_prefix(&self) -> &'static str {
        if self.service == "origin" { "api" } else { self.service }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("cannot open {what} file {path}", path = .path.display())]
    Open { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot start the {0} writer")]
    Thread(&'static str, #[source] std::io::Error),
    #[error("telemetry.{0} must be 0, or between 0.000001 and 1")]
    Share(&'static str),
    #[error("telemetry.tail_limit must be at least 1 MiB")]
    TailLimit,
    #[error("telemetry.decision_bus must be \"hub\", http://host:port or unix:/path, and is {0:?}")]
    Bus(String),
    #[error("telemetry.otlp: {0}")]
    Otlp(String),
    #[error("the system gave no random bytes: {0}")]
    Random(String),
    #[error("cannot write to stdout or stderr")]
    Stream(#[source] std::io::Error),
    #[error(transparent)]
    LogKey(#[from] LogKeyError),
}

/// One service's traces, metrics and logs. Services of one process share writers and clock ([`Telemetry::service`]),
/// and each has a registry of its own.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    info: ServiceInfo,
    resource: Arc<Resource>,
    source: Source,
    metrics: Metrics,
    decisions: DecisionMetrics,
    dropped_spans: Counter,
    rejections: Rejections,
    sequence: AtomicU64,
    shared: Arc<Shared>,
}

/// A sweep that comes so late shows that the process, or its machine, stood still.
const STOPPED_NS: u64 = 500_000_000;

struct Shared {
    record: Record,
    clock: Clock,
    ticks: Ticks,
    /// A reading of the ticks and the wall-clock nanoseconds of the same moment.
    anchor: Mutex<(u64, u64)>,
    pool: Pool,
    debug: DebugDoor,
    seed: u64,
    boot_id: String,
    /// Reading of the ticks from which the sampler counts time, and the nanoseconds that it leaves out: those in which
    /// the process was stopped, and could be told nothing.
    begun: u64,
    stopped: AtomicU64,
    sampler: Sampler<Held>,
    slow_after: Duration,
    traces: Exporters,
    logs: Logs,
}

impl Telemetry {
    /// Opens the files and starts the writers. Keep the guard until the very end.
    pub fn start(config: &TelemetryConfig, info: ServiceInfo, clock: Clock) -> Result<(Self, Guard), TelemetryError> {
        for (key, share) in [
            ("sample_normal", config.sample_normal),
            ("sample_edge_only", config.sample_edge_only),
            ("sample_logs", config.sample_logs),
            ("sample_logs_edge", config.sample_logs_edge),
        ] {
            if share != 0.0 && !(1e-6..=1.0).contains(&share) {
                return Err(TelemetryError::Share(key));
            }
        }
        let tail_limit = match config.tail_limit {
            Some(limit) if limit.as_usize() < LEAST_TAIL => return Err(TelemetryError::TailLimit),
            Some(limit) => limit.as_usize(),
            None if info.service == "edge" => 16 << 20,
            None => 64 << 20,
        };
        let mut random = [0; 20];
        getrandom::fill(&mut random).map_err(|e| TelemetryError::Random(e.to_string()))?;
        let metrics = Metrics::new(info.service, config.record);
        let limit = config.queue_limit.as_usize();
        let [queue_full, write_failed] =
            ["queue_full", "write_failed"].map(|reason| metrics.counter(&LOG_DROPPED, &[reason]));
        let log_drops = DropCounters { queue_full, write_failed };
        let open = |what, path: &PathBuf| {
            Output::file(path, config.file_limit.get()).map_err(|source| TelemetryError::Open {
                what,
                path: path.clone(),
                source,
            })
        };
        let export = ExportMetrics::new(&metrics);
        let mut traces = Exporters::default();
        if let Some(path) = &config.traces {
            let file = TraceFile::new(open("trace", path)?);
            traces.add("trace-writer", file, limit, &export).map_err(|e| TelemetryError::Thread("trace", e))?;
        }
        if let Some(address) = &config.otlp {
            let collector = Collector::new(address, config.otlp_timeout.get())
                .map_err(|error| TelemetryError::Otlp(error.to_string()))?;
            traces.add("trace-exporter", collector, limit, &export).map_err(|e| TelemetryError::Thread("trace", e))?;
        }
        let output = match &config.logs {
            LogTarget::Stdout => Some(Output::stdout().map_err(TelemetryError::Stream)?),
            LogTarget::Stderr => Some(Output::stderr().map_err(TelemetryError::Stream)?),
            LogTarget::File(path) => Some(open("log", path)?),
            LogTarget::Off => None,
        };
        let counters = LogCounters { dropped: log_drops, suppressed: metrics.counter(&LOG_SUPPRESSED, &[]) };
        let logs = Logs::start(config, output, counters, clock())?;
        let mut boot_id = String::new();
        crate::context::push_hex(&random[..8], &mut boot_id);
        let ticks = Ticks::new();
        let anchor = (ticks.now(), millis_to_nanos(clock()));
        let policy = Policy {
            normal: Threshold::of_share(config.sample_normal),
            edge_only: Threshold::of_share(config.sample_edge_only),
        };
        let limits = TailLimits {
            bytes: tail_limit,
            traces: MAX_TRACES,
            wait: config.tail_wait.get(),
            short_wait: config.tail_wait.get().min(SHORT_WAIT),
            slow_after: config.slow_after.get(),
            age: MAX_AGE,
        };
        let origin = u32::from_le_bytes([random[16], random[17], random[18], random[19]]);
        let sampler = Sampler::new(policy, limits, config.promoted_per_second, origin);
        let shared = Arc::new(Shared {
            record: config.record,
            clock,
            ticks,
            anchor: Mutex::new(anchor),
            pool: Pool::default(),
            debug: DebugDoor::new(config.debug_key.clone()),
            seed: u64::from_le_bytes([
                random[8], random[9], random[10], random[11], random[12], random[13], random[14], random[15],
            ]),
            boot_id,
            begun: anchor.0,
            stopped: AtomicU64::new(0),
            sampler,
            slow_after: config.slow_after.get(),
            traces,
            logs,
        });
        let sampling = SamplingMetrics::new(&metrics);
        let sweeping = Arc::downgrade(&shared);
        let mut swept = shared.ticks.now();
        let sweep = move || {
            let Some(shared) = sweeping.upgrade() else { return false };
            let now = shared.ticks.now();
            let since = shared.ticks.nanos(std::mem::replace(&mut swept, now), now);
            if since > STOPPED_NS {
                shared.stopped.fetch_add(since, Relaxed);
            }
            let wall = (shared.clock)();
            shared.with_sampler(|sampler, now, out| {
                sampler.tick(now, wall, out);
                sampling.read(sampler, now);
            });
            true
        };
        let sweeper = match config.record {
            Record::All => Some(Sweeper::spawn(sweep).map_err(|e| TelemetryError::Thread("sampling", e))?),
            Record::None => None,
        };
        let guard = Guard { shared: shared.clone(), sweeper };
        Ok((Self::new(info, metrics, shared), guard))
    }

    /// Another service of this process: same writers, own registry and name.
    pub fn service(&self, info: ServiceInfo) -> Self {
        let metrics = Metrics::new(info.service, self.0.shared.record);
        Self::new(info, metrics, self.0.shared.clone())
    }

    fn new(info: ServiceInfo, metrics: Metrics, shared: Arc<Shared>) -> Self {
        let decisions = DecisionMetrics::new(&metrics);
        let dropped_spans = metrics.counter(&TRACE_SPANS_DROPPED, &[]);
        let resource = Arc::new(Resource::new(&info, &shared.boot_id));
        let rejections = Rejections::new(&metrics);
        let source = Source::new(&info, &shared.boot_id);
        let sequence = AtomicU64::new(0);
        Self(Arc::new(Inner {
            info,
            resource,
            source,
            metrics,
            decisions,
            dropped_spans,
            rejections,
            sequence,
            shared,
        }))
    }

    pub fn info(&self) -> &ServiceInfo {
        &self.0.info
    }

    /// False where the process is set to record nothing.
    pub fn records(&self) -> bool {
        self.0.shared.record == Record::All
    }

    pub(crate) fn registry(&self) -> &prometheus::Registry {
        self.0.metrics.registry()
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub fn now(&self) -> UnixMillis {
        (self.0.shared.clock)()
    }

    /// A fresh request id at this moment. Falls back on the process's own sequence should the system have no randomness.
    pub fn new_id(&self) -> RequestId {
        let mut random = [0; 10];
        if getrandom::fill(&mut random).is_err() {
            let next = self.0.sequence.fetch_add(1, Relaxed);
            random[2..].copy_from_slice(&mix(self.0.shared.seed ^ next).to_le_bytes());
        }
        RequestId::new(self.now(), random)
    }

    /// Begins a local root. With a parent its trace id is used, otherwise `id`.
    pub fn root(&self, name: &'static str, kind: Kind, parent: Option<TraceParent>, id: RequestId) -> Span {
        if !self.records() {
            return Span::none();
        }
        let id = parent.map_or(id, |parent| parent.trace_id);
        Span::root(self, name, kind, id, Context::from(parent))
    }

    /// Writes a line, subject to the level and, for repeated warnings and errors, to a rate limit that reports what it
    /// held back.
    pub fn log(&self, event: &impl Notice, span: Option<&Span>) {
        self.0.shared.logs.write(event, &self.0.source, self.now(), span.and_then(Span::place));
    }

    /// The line of a request: written if its trace is kept, and for a share of the others ([`TelemetryConfig`]). One
    /// that is not written is not rendered either, and costs no allocation.
    pub fn log_request(&self, event: impl Into<RequestEvent>, span: &Span) {
        if !self.records() {
            return;
        }
        let held = self.0.shared.logs.request(event.into(), &self.0.source, self.now(), || span.place());
        if let Some(held) = held {
            span.hold_line(held);
        }
    }

    /// The verdict about the trace that a line waited for.
    pub(crate) fn settle_line(&self, held: &HeldLine, place: Place, judged: &Judged) {
        let Inner { info, source, shared, .. } = &*self.0;
        shared.logs.settle(held, source, place, judged, info.service == "edge");
    }

    /// `hmac-sha256:w<week>:<base64url>`: the same for a visitor within a week, a purpose and a log key.
    pub fn user_hash(&self, purpose: Purpose, uid: &Uid, now: UnixMillis) -> UserHash {
        self.0.shared.logs.user_hash(purpose, uid, now)
    }

    pub(crate) fn export(&self, trace: KeptTrace) {
        self.0.shared.traces.push(trace);
    }

    /// Runs `act` at this moment, and sends on its way what it settles.
    pub(crate) fn with_sampler<T>(
        &self,
        act: impl FnOnce(&Sampler<Held>, Duration, &mut Vec<Settled<Held>>) -> T,
    ) -> T {
        self.0.shared.with_sampler(act)
    }

    /// What this process is called on the decision bus.
    pub fn bus_origin(&self) -> u32 {
        self.0.shared.sampler.origin()
    }

    /// Takes what other processes decided.
    pub fn decision_sink(&self) -> Arc<dyn DecisionSink> {
        Arc::new(Hearing(Arc::downgrade(&self.0.shared)))
    }

    /// From now on promotions are told on `bus`. The first one stays; false for a further one.
    pub fn attach_bus(&self, bus: Arc<dyn DecisionBus>) -> bool {
        self.0.shared.sampler.outbox().attach(bus)
    }

    pub(crate) fn policy(&self) -> &Policy {
        self.0.shared.sampler.policy()
    }

    pub(crate) fn decisions(&self) -> &DecisionMetrics {
        &self.0.decisions
    }

    pub(crate) fn slow_after(&self) -> Duration {
        self.0.shared.slow_after
    }

    pub(crate) fn resource(&self) -> &Arc<Resource> {
        &self.0.resource
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0.shared.pool
    }

    pub(crate) fn ticks(&self) -> &Ticks {
        &self.0.shared.ticks
    }

    pub(crate) fn rejections(&self) -> &Rejections {
        &self.0.rejections
    }

    pub(crate) fn debug_door(&self) -> &DebugDoor {
        &self.0.shared.debug
    }

    pub(crate) fn count_dropped_span(&self) {
        self.0.dropped_spans.inc();
    }

    /// Distinct for every local root, also for two of one trace in one process, as long as the numbers are.
    pub(crate) fn span_seed(&self, id: RequestId, number: u64) -> u64 {
        mix(self.0.shared.seed.wrapping_add(number) ^ id.randomness())
    }

    /// Wall-clock nanoseconds of a reading of the ticks, so that spans of one process order as they happened.
    pub(crate) fn unix_ns(&self, at: u64) -> u64 {
        let ticks = self.ticks();
        let (now, wall) = (ticks.now(), millis_to_nanos(self.now()));
        let mut anchor = self.0.shared.anchor.lock();
        let (base, base_ns) = *anchor;
        let mut derived = base_ns + ticks.nanos(base, now);
        if derived.abs_diff(wall) > MAX_DRIFT_NS {
            *anchor = (now, wall);
            derived = wall;
        }
        derived.saturating_sub(ticks.nanos(at, now))
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Telemetry({})", self.0.info.service)
    }
}

impl Shared {
    fn with_sampler<T>(&self, act: impl FnOnce(&Sampler<Held>, Duration, &mut Vec<Settled<Held>>) -> T) -> T {
        let ran = self.ticks.nanos(self.begun, self.ticks.now()).saturating_sub(self.stopped.load(Relaxed));
        let now = Duration::from_nanos(ran);
        let mut settled = Vec::new();
        let result = act(&self.sampler, now, &mut settled);
        dispatch(settled);
        result
    }
}

/// The bus does not keep alive what it speaks to.
struct Hearing(Weak<Shared>);

impl DecisionSink for Hearing {
    fn hear(&self, decisions: &[Decision]) {
        if let Some(shared) = self.0.upgrade() {
            let wall = (shared.clock)();
            shared.with_sampler(|sampler, now, out| sampler.hear(decisions, now, wall, out));
        }
    }
}

/// Flushes and stops the writers when dropped.
#[must_use = "telemetry stops when this is dropped"]
pub struct Guard {
    shared: Arc<Shared>,
    sweeper: Option<Sweeper>,
}

impl Guard {
    /// Waits until all that was recorded is written; false when `limit` passed first. Traces that wait for a verdict
    /// from elsewhere wait no longer.
    pub fn flush(&self, limit: Duration) -> bool {
        let wall = (self.shared.clock)();
        self.shared.with_sampler(|sampler, now, out| sampler.drain(now, wall, out));
        let traces = self.shared.traces.flush(limit);
        self.shared.logs.flush(limit) && traces
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.sweeper.take();
        self.flush(FLUSH_LIMIT);
        self.shared.traces.stop();
        self.shared.logs.stop();
    }
}

fn millis_to_nanos(ms: UnixMillis) -> u64 {
    u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000)
}

/// SplitMix64's finaliser.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
