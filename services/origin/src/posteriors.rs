//! The newest posterior counts, for every edge and for answers without the bandit.

use crate::Parts;
use crate::telemetry::Step;
use arc_swap::ArcSwap;
use attune_decision::Posteriors;
use attune_domain::PosteriorSnapshot;
use attune_runtime::Shutdown;
use attune_storage::ObjectHash;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// A snapshot and its encoded form, which decisions name by hash.
pub(crate) struct Current {
    pub(crate) posteriors: Arc<Posteriors>,
    pub(crate) snapshot: PosteriorSnapshot,
    pub(crate) hash: ObjectHash,
    pub(crate) content: Bytes,
}

impl Current {
    fn new(snapshot: PosteriorSnapshot) -> Self {
        let content = Bytes::from(Posteriors::encode(&snapshot));
        let hash = ObjectHash::of(&content);
        Self { posteriors: Arc::new(Posteriors::new(&snapshot, hash.0)), snapshot, hash, content }
    }
}

pub(crate) struct SharedPosteriors {
    current: ArcSwap<Current>,
    /// The snapshot that the bandit sampled from last.
    bandit: Mutex<(ObjectHash, Bytes)>,
}

impl Default for SharedPosteriors {
    fn default() -> Self {
        let empty = Current::new(PosteriorSnapshot::default());
        let bandit = Mutex::new((ObjectHash([0; 16]), Bytes::new()));
        Self { current: ArcSwap::from_pointee(empty), bandit }
    }
}

impl SharedPosteriors {
    pub(crate) fn load(&self) -> Arc<Current> {
        self.current.load_full()
    }

    pub(crate) fn known_to_bandit(&self) -> ObjectHash {
        self.bandit.lock().0
    }

    /// Remembers the bandit's snapshot and gives its content, as a record that names it must bring it along.
    pub(crate) fn of_bandit(&self, hash: ObjectHash, content: Bytes) -> Option<Bytes> {
        let mut known = self.bandit.lock();
        // A snapshot without counts has no bytes, but a name all the same.
        if ObjectHash::of(&content) == hash {
            *known = (hash, content);
        }
        (known.0 == hash).then(|| known.1.clone())
    }
}

/// Looks at the feature store's counts, and tells the edges when they moved.
pub(crate) async fn poll(parts: Arc<Parts>, shutdown: Shutdown) {
    let every = parts.config.watch.posteriors_every.get();
    loop {
        if let Ok(snapshot) = parts.features.posteriors().await {
            let next = Current::new(snapshot);
            if next.hash != parts.posteriors.load().hash {
                let next = Arc::new(next);
                parts.posteriors.current.store(Arc::clone(&next));
                parts.watchers.posteriors_moved(&next);
            }
        } else {
            parts.metrics.background_failed(Step::Posteriors);
        }
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}
