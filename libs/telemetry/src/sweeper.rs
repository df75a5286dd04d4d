//! The thread that keeps sampling going: settles what has waited long enough, promotes what has become slow, tells the
//! other processes, and reads the sampler's own metrics.

use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(50);

pub(crate) struct Sweeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Calls `tick` until it returns false or the sweeper is dropped.
    pub(crate) fn spawn(mut tick: impl FnMut() -> bool + Send + 'static) -> io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let told = stop.clone();
        let run = move || {
            let (stopped, wake) = &*told;
            loop {
                let mut stopped = stopped.lock();
                if !*stopped {
                    wake.wait_for(&mut stopped, EVERY);
                }
                if *stopped {
                    return;
                }
                drop(stopped);
                if !tick() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("trace-sweeper".into()).spawn(run)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_one();
        // A tick that panicked has told so itself.
        self.thread.take().map(JoinHandle::join);
    }
}
