//! From an event to the writer: level, rate limit, sampling, rendering.

use super::LogLevel;
use super::events::{LogEvent, Notice, RequestEvent};
use super::limit::RateLimit;
use super::line::{Frame, Source, render};
use super::writer::LogWriter;
use crate::hash::{Purpose, UserHasher};
use crate::sampling::{Outcome, Threshold};
use crate::sink::{DropCounters, Output};
use crate::{Counter, RequestLogs, TelemetryConfig, TelemetryError, UserHash};
use attune_domain::{RequestId, Uid, UnixMillis};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Trace and span of a line.
pub(crate) type Place = (RequestId, [u8; 8]);

/// The line of a request that waits for its trace's verdict. Fixed in size, without a heap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldLine {
    at: UnixMillis,
    event: RequestEvent,
}

/// What became of a trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) randomness: u64,
    /// The threshold under which it was recorded at all.
    pub(crate) floor: Threshold,
    pub(crate) outcome: Outcome,
}

/// The logs of one process.
pub(crate) struct Logs {
    writer: Option<LogWriter>,
    level: LogLevel,
    request_logs: RequestLogs,
    /// Share of the requests whose trace is not kept that write their line all the same: origin and the like, edge.
    others: [f64; 2],
    /// With the process's boot id it names a line; a gap is a loss, a repetition a duplicate.
    sequence: AtomicU64,
    limit: RateLimit,
    suppressed: Counter,
    hasher: UserHasher,
}

/// Counters of lines that were not written.
pub(crate) struct LogCounters {
    pub(crate) dropped: DropCounters,
    pub(crate) suppressed: Counter,
}

impl Logs {
    pub(crate) fn start(
        config: &TelemetryConfig,
        output: Option<Output>,
        counters: LogCounters,
        now: UnixMillis,
    ) -> Result<Self, TelemetryError> {
        let LogCounters { dropped, suppressed } = counters;
        let spawn = |output| LogWriter::spawn(output, config.queue_limit.as_usize(), dropped);
        let writer = output.map(spawn).transpose().map_err(|source| TelemetryError::Thread("log", source))?;
        Ok(Self {
            writer,
            level: config.log_level,
            request_logs: config.request_logs,
            others: [config.sample_logs, config.sample_logs_edge],
            sequence: AtomicU64::new(0),
            limit: RateLimit::new(),
            suppressed,
            hasher: UserHasher::new(config.log_key.as_ref(), now)?,
        })
    }

    /// Writes a line now, subject to the level and the rate limit.
    pub(crate) fn write<E: Notice>(&self, event: &E, source: &Source, now: UnixMillis, place: Option<Place>) {
        if self.writes(E::SPEC.level) {
            self.line(event, source, now, place, 1.0);
        }
    }

    /// A request's line: written now where every one is, otherwise given back to wait for the verdict.
    pub(crate) fn request(
        &self,
        event: RequestEvent,
        source: &Source,
        now: UnixMillis,
        place: impl FnOnce() -> Option<Place>,
    ) -> Option<HeldLine> {
        if !self.writes(LogLevel::Info) {
            return None;
        }
        let held = HeldLine { at: now, event };
        if self.request_logs == RequestLogs::Sampled {
            return Some(held);
        }
        self.held_line(&held, source, place(), 1.0);
        None
    }

    /// The verdict about a request's trace. Lines of kept traces are written, and a share of the others, chosen by the
    /// trace's randomness alone so that services agree. Each line's weight is one over the probability that a request of
    /// its class has a line at all, whichever way it came through: so the weights add up to the number of requests.
    pub(crate) fn settle(&self, held: &HeldLine, source: &Source, place: Place, judged: &Judged, at_edge: bool) {
        let Judged { randomness, floor, outcome } = *judged;
        let others = self.others[usize::from(at_edge)];
        let chosen = crate::telemetry::mix(randomness ^ OTHERS) >> 11;
        if !outcome.keep && chosen as f64 >= others * (1u64 << 53) as f64 {
            return;
        }
        let (recorded, kept) = (1.0 / floor.weight(), 1.0 / outcome.threshold.weight());
        self.held_line(held, source, Some(place), 1.0 / (kept + (recorded - kept).max(0.0) * others));
    }

    pub(crate) fn user_hash(&self, purpose: Purpose, uid: &Uid, now: UnixMillis) -> UserHash {
        self.hasher.hash(purpose, uid, now)
    }

    pub(crate) fn flush(&self, limit: Duration) -> bool {
        self.writer.as_ref().is_none_or(|writer| writer.flush(limit))
    }

    pub(crate) fn stop(&self) {
        self.writer.iter().for_each(LogWriter::stop);
    }

    fn writes(&self, level: LogLevel) -> bool {
        self.writer.is_some() && level >= self.level
    }

    fn held_line(&self, held: &HeldLine, source: &Source, place: Option<Place>, weight: f64) {
        match &held.event {
            RequestEvent::PersonalizationComplete(event) => self.line(event, source, held.at, place, weight),
            RequestEvent::FeedbackAccepted(event) => self.line(event, source, held.at, place, weight),
            RequestEvent::ExplanationGiven(event) => self.line(event, source, held.at, place, weight),
        }
    }

    fn line<E: LogEvent>(&self, event: &E, source: &Source, now: UnixMillis, place: Option<Place>, weight: f64) {
        let Some(writer) = &self.writer else { return };
        let Some(suppressed) = self.limit.admit(E::SPEC, now) else { return self.suppressed.inc() };
        let user = event.subject().user.map(|uid| self.hasher.hash(Purpose::Logs, &uid, now));
        let sequence = self.sequence.fetch_add(1, Relaxed);
        let frame = Frame { now, source, sequence, place, user, suppressed, weight };
        // Taken only where this thread panics while it renders, or is ending: then there is no line.
        let _lost = LINE.try_with(|line| {
            let Ok(mut line) = line.try_borrow_mut() else { return };
            line.clear();
            render(event, &frame, &mut line);
            writer.push(&line);
        });
    }
}

/// Makes the choice of other lines independent of the traces', which uses the same bits.
const OTHERS: u64 = 0x6c6f_675f_6c69_6e65;

thread_local! {
    /// One line, before it is copied into the shared buffer under its lock.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
