//! A bounded buffer before one writer thread. A push never waits for the output: what does not fit is dropped and
//! counted.
//!
//! The thread sleeps until a first line wakes it, and then looks every [`PAUSE`] for as long as lines come, so that a
//! busy service's lines cost no wake-up.

use crate::sink::{DropCounters, Output};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a line of a busy service waits at most before it is written.
const PAUSE: Duration = Duration::from_millis(20);
/// Pauses without a line after which the thread sleeps.
const QUIET: u32 = 50;
/// A buffer that has grown beyond this in a burst is given back.
const KEEP: usize = 1 << 20;

#[derive(Clone)]
pub(super) struct LogWriter(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    idle: Condvar,
    limit: usize,
    dropped: DropCounters,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    count: u64,
    /// Bytes that the thread is writing; they count towards the limit.
    in_flight: usize,
    asleep: bool,
    hurry: bool,
    stopped: bool,
}

impl LogWriter {
    pub(super) fn spawn(mut output: Output, limit: usize, dropped: DropCounters) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), idle: Condvar::new(), limit, dropped });
        let writer = shared.clone();
        std::thread::Builder::new().name("log-writer".into()).spawn(move || writer.write_all(&mut output))?;
        Ok(Self(shared))
    }

    /// Takes a whole line. The newest is dropped where there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        if state.stopped || state.lines.len() + state.in_flight + line.len() > self.0.limit {
            drop(state);
            self.0.dropped.queue_full.inc();
            return;
        }
        state.lines.extend_from_slice(line);
        state.count += 1;
        if state.asleep {
            self.0.wake.notify_one();
        }
    }

    /// Waits until everything pushed so far is written; false when `limit` passed first.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.0.state.lock();
        while !state.lines.is_empty() || state.in_flight > 0 {
            state.hurry = true;
            self.0.wake.notify_one();
            if self.0.idle.wait_until(&mut state, until).timed_out() {
                return state.lines.is_empty() && state.in_flight == 0;
            }
        }
        true
    }

    pub(super) fn stop(&self) {
        self.0.state.lock().stopped = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn write_all(&self, output: &mut Output) {
        let mut writing = Vec::new();
        loop {
            writing.clear();
            writing.shrink_to(KEEP);
            let Some(count) = self.next(&mut writing) else { return };
            if output.write(&writing).is_err() {
                self.dropped.write_failed.add(count as f64);
            }
        }
    }

    /// Swaps the waiting lines into the empty `writing`; none when it is time to stop and nothing waits.
    fn next(&self, writing: &mut Vec<u8>) -> Option<u64> {
        let mut state = self.state.lock();
        state.in_flight = 0;
        let mut quiet = 0;
        loop {
            if state.lines.is_empty() {
                self.idle.notify_all();
                if state.stopped {
                    return None;
                }
                if quiet < QUIET {
                    quiet += 1;
                    self.wake.wait_for(&mut state, PAUSE);
                } else {
                    state.asleep = true;
                    self.wake.wait(&mut state);
                    state.asleep = false;
                }
            } else {
                if !state.hurry && !state.stopped {
                    // Gathers what comes next, for fewer and larger writes.
                    self.wake.wait_for(&mut state, PAUSE);
                }
                state.hurry = false;
                std::mem::swap(&mut state.lines, writing);
                state.in_flight = writing.len();
                return Some(std::mem::take(&mut state.count));
            }
        }
    }
}
