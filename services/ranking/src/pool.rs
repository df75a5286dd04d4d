//! Computing off the async threads, a bounded number of calls at a time.
//!
//! Always holds: first come, first served; at most `queue` calls wait; a call whose caller has gone, or whose deadline
//! has passed, never starts.

use crate::error::RankingError;
use attune_telemetry::Deadline;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

pub struct Pool {
    threads: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

/// Counts a waiting call until it starts or gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// `threads` of 0 means one per core.
    pub fn new(threads: usize, queue: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let threads = Arc::new(Semaphore::new(if threads == 0 { cores } else { threads }));
        Self { threads, waiting: AtomicUsize::new(0), queue }
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RankingError> {
        let permit = match Arc::clone(&self.threads).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
                let _waiting = Waiting(&self.waiting);
                if ahead >= self.queue {
                    return Err(RankingError::Overloaded);
                }
                match timeout_at(deadline.instant(), Arc::clone(&self.threads).acquire_owned()).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) => return Err(RankingError::Overloaded),
                    Err(_) => return Err(RankingError::Late),
                }
            }
        };
        let running = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            (!deadline.passed()).then(work)
        });
        match timeout_at(deadline.instant(), running).await {
            Ok(Ok(Some(done))) => Ok(done),
            Ok(Ok(None)) | Err(_) => Err(RankingError::Late),
            Ok(Err(_)) => Err(RankingError::Panicked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_what_was_abandoned_never_runs() {
        let pool = Arc::new(Pool::new(1, 1));
        let (release, held) = mpsc::channel::<()>();
        let far = Deadline::after(Duration::from_secs(60));
        let busy = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(far, move || held.recv().is_ok()).await }
        });
        while pool.threads.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let (ran, runs) = mpsc::channel();
        let abandoned = tokio::spawn({
            let (pool, ran) = (Arc::clone(&pool), ran.clone());
            async move { pool.run(far, move || ran.send("abandoned")).await.map(|_| ()) }
        });
        while pool.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(far, || ()).await, Err(RankingError::Overloaded));
        abandoned.abort();
        _ = abandoned.await;
        assert_eq!(pool.waiting(), 0);
        let late = pool.run(Deadline::after(Duration::ZERO), move || ran.send("late")).await;
        assert_eq!(late.map(|_| ()), Err(RankingError::Late));
        release.send(()).unwrap();
        assert_eq!(busy.await.unwrap(), Ok(true));
        assert_eq!(pool.run(far, || 7).await, Ok(7));
        assert!(runs.try_recv().is_err(), "neither the abandoned nor the late call ran");
        assert_eq!(pool.run(far, || panic!("as a broken model would")).await, Err::<(), _>(RankingError::Panicked));
        assert_eq!(pool.run(far, || 8).await, Ok(8), "a panic gives its thread back");
    }
}
