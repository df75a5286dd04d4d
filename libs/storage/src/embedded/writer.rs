//! The one thread of a store that writes.
//!
//! Always holds: jobs are done in the order they were taken; what waits is bounded in number and bytes, and beyond
//! that a job is refused at once; jobs taken before the store is dropped are done before it is gone.

use crate::StorageError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

const MAX_WAITING: usize = 4_096;
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Most bytes that one commit takes from the queue.
const MAX_FOLD_BYTES: usize = 8 << 20;

/// Where a job's answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StorageError>>;

pub(super) trait Job: Send + 'static {
    fn bytes(&self) -> usize;
}

pub(super) struct Writer<J> {
    queue: Option<SyncSender<J>>,
    waiting_bytes: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Job> Writer<J> {
    /// Starts the thread with `begin`; `work` gets what is queued, folded up to a bound.
    pub(super) fn start(
        name: &str,
        begin: fn(),
        mut work: impl FnMut(Vec<J>) + Send + 'static,
    ) -> Result<Self, StorageError> {
        let (queue, jobs) = sync_channel(MAX_WAITING);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let waiting = waiting_bytes.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                begin();
                while let Some(fold) = next_fold(&jobs, &waiting) {
                    work(fold);
                }
            })
            .map_err(|e| StorageError::Io(format!("start writer: {e}")))?;
        Ok(Self { queue: Some(queue), waiting_bytes, thread: Some(thread) })
    }

    /// Queues a job and waits for its answer. A caller that goes away does not undo the job.
    pub(super) async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> J) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        self.submit(job(reply))?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn submit(&self, job: J) -> Result<(), StorageError> {
        let bytes = job.bytes();
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let sent = match &self.queue {
            // One job always fits, however large.
            _ if before > 0 && before + bytes > MAX_WAITING_BYTES => Err(StorageError::Overloaded),
            Some(queue) => queue.try_send(job).map_err(|e| match e {
                TrySendError::Full(_) => StorageError::Overloaded,
                TrySendError::Disconnected(_) => stopped(),
            }),
            None => Err(stopped()),
        };
        if sent.is_err() {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }
}

fn next_fold<J: Job>(jobs: &Receiver<J>, waiting: &AtomicUsize) -> Option<Vec<J>> {
    let mut fold = vec![jobs.recv().ok()?];
    let mut bytes = fold[0].bytes();
    while bytes < MAX_FOLD_BYTES
        && let Ok(job) = jobs.try_recv()
    {
        bytes += job.bytes();
        fold.push(job);
    }
    waiting.fetch_sub(bytes, Ordering::Relaxed);
    Some(fold)
}

fn stopped() -> StorageError {
    StorageError::Io("writer has stopped".to_owned())
}

impl<J> Drop for Writer<J> {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer has already answered its callers with an error.
            let _ = thread.join();
        }
    }
}
