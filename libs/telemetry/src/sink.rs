//! A bounded queue before one writer thread. Pushing never waits: what does not fit is dropped and counted.

use crate::Counter;
use parking_lot::{Condvar, Mutex};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Something that becomes lines on the writer thread, so that the encoding is off the request path.
pub(crate) trait Render: Send + 'static {
    /// Bytes it holds while it waits, roughly.
    fn cost(&self) -> usize;
    fn render(self, out: &mut Vec<u8>);
}

/// Counters of what did not get out.
#[derive(Clone)]
pub(crate) struct DropCounters {
    pub(crate) queue_full: Counter,
    pub(crate) write_failed: Counter,
}

pub(crate) struct Sink<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Sink<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    idle: Condvar,
    limit: usize,
    dropped: DropCounters,
}

struct State<T> {
    queue: Vec<T>,
    bytes: usize,
    writing: bool,
    stopped: bool,
}

impl<T: Render> Sink<T> {
    pub(crate) fn spawn(
        name: &str,
        mut output: Output,
        limit: usize,
        dropped: DropCounters,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { queue: Vec::new(), bytes: 0, writing: false, stopped: false }),
            wake: Condvar::new(),
            idle: Condvar::new(),
            limit,
            dropped,
        });
        let writer = shared.clone();
        std::thread::Builder::new().name(name.into()).spawn(move || writer.write_all(&mut output))?;
        Ok(Self { shared })
    }

    /// False when it was dropped.
    pub(crate) fn push(&self, item: T) -> bool {
        let cost = item.cost();
        let mut state = self.shared.state.lock();
        if state.stopped || state.bytes + cost > self.shared.limit {
            drop(state);
            self.shared.dropped.queue_full.inc();
            return false;
        }
        state.bytes += cost;
        state.queue.push(item);
        if state.queue.len() == 1 && !state.writing {
            self.shared.wake.notify_one();
        }
        true
    }

    /// Waits until everything pushed so far is written; false when `limit` passed first.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.shared.state.lock();
        while !state.queue.is_empty() || state.writing {
            if self.shared.idle.wait_until(&mut state, until).timed_out() {
                return state.queue.is_empty() && !state.writing;
            }
        }
        true
    }

    pub(crate) fn stop(&self) {
        self.shared.state.lock().stopped = true;
        self.shared.wake.notify_one();
    }
}

impl<T: Render> Shared<T> {
    fn write_all(&self, output: &mut Output) {
        let mut bytes = Vec::new();
        loop {
            let batch = {
                let mut state = self.state.lock();
                state.writing = false;
                if state.queue.is_empty() {
                    self.idle.notify_all();
                }
                while state.queue.is_empty() {
                    if state.stopped {
                        return;
                    }
                    self.wake.wait(&mut state);
                }
                state.writing = true;
                state.bytes = 0;
                std::mem::take(&mut state.queue)
            };
            let count = batch.len();
            bytes.clear();
            batch.into_iter().for_each(|item| item.render(&mut bytes));
            if output.write(&bytes).is_err() {
                self.dropped.write_failed.add(count as f64);
            }
        }
    }
}

/// Where the bytes go. A file is appended to and never grows past its limit by more than one batch.
pub(crate) enum Output {
    Stdout,
    Stderr,
    File { path: PathBuf, file: File, written: u64, limit: u64 },
}

impl Output {
    pub(crate) fn file(path: &Path, limit: u64) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        Ok(Self::File { path: path.into(), file, written, limit })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(bytes),
            Self::Stderr => io::stderr().lock().write_all(bytes),
            Self::File { path, file, written, limit } => {
                if *written > 0 && *written + bytes.len() as u64 > *limit {
                    let mut old = path.clone().into_os_string();
                    old.push(".1");
                    std::fs::rename(&*path, old)?;
                    *file = OpenOptions::new().create(true).append(true).open(&*path)?;
                    *written = 0;
                }
                file.write_all(bytes)?;
                *written += bytes.len() as u64;
                Ok(())
            }
        }
    }
}
