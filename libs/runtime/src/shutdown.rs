//! One moment that everybody can wait for.

use std::sync::Arc;
use tokio::sync::watch;

/// Clones share the moment. It happens once and stays.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    pub fn triggered(&self) -> bool {
        *self.0.borrow()
    }

    pub async fn wait(&self) {
        let mut changes = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = changes.wait_for(|happened| *happened).await;
    }

    /// For work that watches a flag: true once it happened.
    pub fn flag(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Triggers on SIGTERM or SIGINT. Only the program's main does this.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            shutdown.trigger();
        });
        Ok(())
    }
}
