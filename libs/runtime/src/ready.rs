//! Whether a service may get traffic, and if not, why.

use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Conditions that all must hold. Clones share them. With none at all a service is ready.
#[derive(Debug, Clone)]
pub struct Ready(Arc<watch::Sender<State>>);

#[derive(Debug, Default, Clone)]
struct State {
    /// Name to what is missing; none when it holds.
    conditions: BTreeMap<&'static str, Option<&'static str>>,
    draining: bool,
}

/// One condition; down until told otherwise.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    ready: Ready,
}

impl Default for Ready {
    fn default() -> Self {
        Self::new()
    }
}

impl Ready {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Adds a condition, which does not hold yet.
    pub fn require(&self, name: &'static str) -> Condition {
        self.0.send_modify(|state| {
            state.conditions.insert(name, Some("starting"));
        });
        Condition { name, ready: self.clone() }
    }

    /// From now on not ready, for good.
    pub fn drain(&self) {
        self.0.send_modify(|state| state.draining = true);
    }

    pub fn is_ready(&self) -> bool {
        self.0.borrow().is_ready()
    }

    /// (condition, what is missing); empty when ready.
    pub fn reasons(&self) -> Vec<(&'static str, &'static str)> {
        let state = self.0.borrow();
        let missing = state.conditions.iter().filter_map(|(name, reason)| reason.map(|reason| (*name, reason)));
        missing.chain(state.draining.then_some(("process", "draining"))).collect()
    }

    pub async fn wait(&self) {
        let mut changes = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = changes.wait_for(State::is_ready).await;
    }

    /// Returns when readiness is no longer `known`.
    pub async fn changed_from(&self, known: bool) {
        let mut changes = self.0.subscribe();
        let _ = changes.wait_for(|state| state.is_ready() != known).await;
    }
}

impl State {
    fn is_ready(&self) -> bool {
        !self.draining && self.conditions.values().all(Option::is_none)
    }
}

impl Condition {
    pub fn up(&self) {
        self.set(None);
    }

    /// The reason is shown to operators; it is a constant.
    pub fn down(&self, reason: &'static str) {
        self.set(Some(reason));
    }

    fn set(&self, reason: Option<&'static str>) {
        self.ready.0.send_if_modified(|state| {
            let before = state.conditions.insert(self.name, reason);
            before != Some(reason)
        });
    }
}
