//! What a walk says about itself, live and at the end.

use super::arms::{Arm, Lift};
use super::latency::LatencyReport;
use serde::Serialize;
use std::collections::BTreeMap;

/// `walk` in the lines of `attune simulate --json`: so far under the event `walking`, at the end under `walked`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WalkReport {
    pub seconds: f64,
    /// Visitors that got an answer.
    pub visitors: usize,
    /// Requests for a page, failed ones included.
    pub requests: u64,
    pub answers: u64,
    /// Failed requests of both kinds by what a visitor can see.
    pub errors: BTreeMap<&'static str, u64>,
    pub latency: LatencyReport,
    /// Share of answers with `cache: hit`.
    pub hit_share: Option<f64>,
    /// Answers by degradation level.
    pub levels: [u64; 6],
    /// Shown slots whose item the world has, and whose item it does not have.
    pub known_items: u64,
    pub unknown_items: u64,
    pub model_versions: Vec<String>,
    pub feedback: FeedbackReport,
    pub treatment: Arm,
    pub holdout: Arm,
    pub lift: Option<Lift>,
    /// Why there is no lift.
    pub lift_absent: Option<String>,
    pub truth: Learning,
    pub examples: Vec<Example>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FeedbackReport {
    pub events: u64,
    pub accepted: u64,
    pub duplicates: u64,
    pub rejected: u64,
    /// Given up after retries.
    pub lost: u64,
}

/// Expected clicks per slot by the world's truth, over the same visits. Treatment only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Truth {
    pub samples: u64,
    pub shown: f64,
    /// Of a slate of the same length drawn evenly from what the visitor has not opened in this walk.
    pub random: f64,
    /// Of the best slate of that. What a visitor opened before the walk still counts as new here, so that a platform
    /// which does not repeat itself cannot quite reach it for visitors of the history.
    pub oracle: f64,
    /// `(shown - random) / (oracle - random)`: 0 knows nothing, 1 knows everything.
    pub known: f64,
}

/// Whether the platform learns: the first `window_seconds` beside the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Learning {
    pub window_seconds: f64,
    pub overall: Option<Truth>,
    pub first: Option<Truth>,
    /// None until the windows no longer overlap.
    pub now: Option<Truth>,
}

/// The newest visit of one visitor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Example {
    pub visitor: String,
    pub known_to_history: bool,
    pub likes: Vec<String>,
    pub variant: &'static str,
    pub visits: u64,
    pub shown: Vec<String>,
    pub clicked: Vec<String>,
}
