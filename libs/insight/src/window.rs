//! Sketches per sub-window of a sliding window.

use crate::sketch::Sketch;
use attune_domain::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far an event may be ahead of the stream's time.
pub(crate) const AHEAD_MS: i64 = 10 * 60_000;

/// A sliding window: `steps` sub-windows of `step_ms`, the last of which is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub step_ms: i64,
    pub steps: u32,
}

impl Window {
    pub const fn minutes(step: i64, steps: u32) -> Self {
        Self { step_ms: step * 60_000, steps }
    }

    pub(crate) fn is_valid(self) -> bool {
        self.step_ms > 0 && (1..=10_000).contains(&self.steps)
    }

    fn index(self, at: UnixMillis) -> i64 {
        at.div_euclid(self.step_ms)
    }

    fn first(self, now: UnixMillis) -> i64 {
        self.index(now) - i64::from(self.steps) + 1
    }
}

/// Always holds: only sub-windows from the first one of the window at `now` to [`AHEAD_MS`] after `now` exist, so there
/// are at most `steps + 1 + AHEAD_MS / step_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Windowed<S> {
    window: Window,
    slots: BTreeMap<i64, S>,
}

impl<S: Sketch> Windowed<S> {
    pub(crate) fn new(window: Window) -> Self {
        Self { window, slots: BTreeMap::new() }
    }

    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// The sketch of the sub-window of `at`. None outside the window.
    pub(crate) fn slot(&mut self, now: UnixMillis, at: UnixMillis) -> Option<&mut S> {
        let inside = at <= now.saturating_add(AHEAD_MS) && self.window.index(at) >= self.window.first(now);
        inside.then(|| self.slots.entry(self.window.index(at)).or_default())
    }

    pub(crate) fn advance(&mut self, now: UnixMillis) {
        let first = self.window.first(now);
        while self.slots.first_key_value().is_some_and(|(&index, _)| index < first) {
            self.slots.pop_first();
        }
    }

    /// Everything in the window that ends at `now`.
    pub(crate) fn total(&self, now: UnixMillis) -> S {
        let mut total = S::default();
        for (_, sketch) in self.slots.range(self.window.first(now)..=self.window.index(now)) {
            total.merge(sketch);
        }
        total
    }

    /// The sub-window that was under way `back` steps before `now`.
    pub(crate) fn back(&self, now: UnixMillis, back: u32) -> Option<&S> {
        self.slots.get(&(self.window.index(now) - i64::from(back)))
    }

    pub(crate) fn clear(&mut self) {
        self.slots.clear();
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (&index, sketch) in &other.slots {
            self.slots.entry(index).or_default().merge(sketch);
        }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.slots.values().map(|sketch| size_of::<(i64, S)>() + sketch.heap_bytes()).sum()
    }
}
