//! Counts of a walk, in memory that the visitors' number bounds, not the walk's length.

use super::arms::{self, Count};
use super::client::Failure;
use super::latency::Latencies;
use super::report::{Example, FeedbackReport, Learning, Truth, WalkReport};
use super::wire::{Answer, Receipt};
use attune_domain::Variant;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Parts of a window: how coarsely the last window slides.
const PARTS: usize = 12;
const WINDOW: Duration = Duration::from_secs(60);
const MAX_VERSIONS: usize = 8;
const MAX_VERSION_CHARS: usize = 64;

pub(crate) struct Tally {
    started: Instant,
    requests: u64,
    answers: u64,
    errors: BTreeMap<&'static str, u64>,
    latencies: Latencies,
    hits: u64,
    levels: [u64; 6],
    known_items: u64,
    unknown_items: u64,
    versions: Vec<String>,
    feedback: FeedbackReport,
    seen: Vec<bool>,
    /// By visitor.
    treatment: Vec<Count>,
    holdout: Vec<Count>,
    truth: Windows,
    examples: BTreeMap<usize, Example>,
}

/// What one visit was worth, per slot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Worth {
    pub(crate) shown: f64,
    pub(crate) random: f64,
    pub(crate) oracle: f64,
}

/// A visit as the tally wants it.
pub(crate) struct Visited {
    pub(crate) index: usize,
    pub(crate) variant: Variant,
    pub(crate) slots: u64,
    pub(crate) known_slots: u64,
    pub(crate) clicks: u64,
    pub(crate) conversions: u64,
    /// Per slot.
    pub(crate) expected: f64,
    /// For the visits that were measured.
    pub(crate) worth: Option<Worth>,
    pub(crate) example: Option<Example>,
}

impl Tally {
    pub(crate) fn new(visitors: usize, duration: Option<Duration>) -> Self {
        Self {
            started: Instant::now(),
            requests: 0,
            answers: 0,
            errors: BTreeMap::new(),
            latencies: Latencies::new(),
            hits: 0,
            levels: [0; 6],
            known_items: 0,
            unknown_items: 0,
            versions: Vec::new(),
            feedback: FeedbackReport::default(),
            seen: vec![false; visitors],
            treatment: vec![Count::default(); visitors],
            holdout: vec![Count::default(); visitors],
            truth: Windows::new(duration.map_or(WINDOW, |d| WINDOW.min(d / 4))),
            examples: BTreeMap::new(),
        }
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        *self.errors.entry(failure.as_str()).or_default() += 1;
    }

    pub(crate) fn asked(&mut self) {
        self.requests += 1;
    }

    pub(crate) fn answered(&mut self, index: usize, answer: &Answer, latency: Duration) {
        self.answers += 1;
        self.latencies.add(latency);
        if let Some(seen) = self.seen.get_mut(index) {
            *seen = true;
        }
        self.hits += u64::from(answer.cache == "hit");
        if let Some(level) = self.levels.get_mut(usize::from(answer.level)) {
            *level += 1;
        }
        // The version comes from outside and goes to a terminal.
        let version: String =
            answer.model_version.chars().filter(|c| c.is_ascii_graphic()).take(MAX_VERSION_CHARS).collect();
        if self.versions.len() < MAX_VERSIONS && !self.versions.contains(&version) {
            self.versions.push(version);
        }
    }

    pub(crate) fn visited(&mut self, visited: Visited) {
        self.known_items += visited.known_slots;
        self.unknown_items += visited.slots - visited.known_slots;
        let counts = match visited.variant {
            Variant::Treatment => &mut self.treatment,
            Variant::Holdout => &mut self.holdout,
        };
        if let Some(count) = counts.get_mut(visited.index) {
            count.impressions += visited.slots;
            count.clicks += visited.clicks;
            count.conversions += visited.conversions;
            count.expected += visited.expected * visited.slots as f64;
        }
        if let (Some(worth), Variant::Treatment) = (visited.worth, visited.variant) {
            self.truth.add(self.started.elapsed(), worth);
        }
        if let Some(example) = visited.example {
            let visits = self.examples.get(&visited.index).map_or(0, |before| before.visits) + 1;
            self.examples.insert(visited.index, Example { visits, ..example });
        }
    }

    pub(crate) fn delivered(&mut self, events: usize, receipt: &Receipt) {
        self.feedback.events += events as u64;
        self.feedback.accepted += receipt.accepted;
        self.feedback.duplicates += receipt.duplicates;
        self.feedback.rejected += receipt.rejected.len() as u64;
    }

    pub(crate) fn lost(&mut self, events: usize) {
        self.feedback.events += events as u64;
        self.feedback.lost += events as u64;
    }

    pub(crate) fn report(&self, elapsed: Duration) -> WalkReport {
        let (lift, lift_absent) = match arms::lift(&self.treatment, &self.holdout) {
            Ok(lift) => (Some(lift), None),
            Err(why) => (None, Some(why)),
        };
        WalkReport {
            seconds: elapsed.as_secs_f64(),
            visitors: self.seen.iter().filter(|seen| **seen).count(),
            requests: self.requests,
            answers: self.answers,
            errors: self.errors.clone(),
            latency: self.latencies.report(),
            hit_share: (self.answers > 0).then(|| self.hits as f64 / self.answers as f64),
            levels: self.levels,
            known_items: self.known_items,
            unknown_items: self.unknown_items,
            model_versions: self.versions.clone(),
            feedback: self.feedback,
            treatment: arms::arm(&self.treatment),
            holdout: arms::arm(&self.holdout),
            lift,
            lift_absent,
            truth: self.truth.report(elapsed),
            examples: self.examples.values().cloned().collect(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    samples: u64,
    worth: Worth,
}

impl Sum {
    fn add(&mut self, worth: Worth) {
        self.merge(&Self { samples: 1, worth });
    }

    fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        self.worth.shown += other.worth.shown;
        self.worth.random += other.worth.random;
        self.worth.oracle += other.worth.oracle;
    }

    fn truth(&self) -> Option<Truth> {
        let n = self.samples as f64;
        let Worth { shown, random, oracle } = self.worth;
        let room = oracle - random;
        (self.samples > 0 && room > 0.0).then(|| Truth {
            samples: self.samples,
            shown: shown / n,
            random: random / n,
            oracle: oracle / n,
            known: (shown - random) / room,
        })
    }
}

/// Sums over everything, the first window, and the last one as a ring of parts.
struct Windows {
    length: Duration,
    overall: Sum,
    first: Sum,
    /// (number of the part, its sum), oldest first.
    last: VecDeque<(u64, Sum)>,
}

impl Windows {
    fn new(length: Duration) -> Self {
        // A window of no length would divide by zero; a millisecond is shorter than any visit.
        let length = length.max(Duration::from_millis(1));
        Self { length, overall: Sum::default(), first: Sum::default(), last: VecDeque::new() }
    }

    fn part_of(&self, elapsed: Duration) -> u64 {
        (elapsed.as_secs_f64() / self.length.as_secs_f64() * PARTS as f64) as u64
    }

    fn add(&mut self, elapsed: Duration, worth: Worth) {
        self.overall.add(worth);
        if elapsed < self.length {
            self.first.add(worth);
        }
        let part = self.part_of(elapsed);
        match self.last.back_mut() {
            Some((last, sum)) if *last == part => sum.add(worth),
            _ => self.last.push_back((part, Sum { samples: 1, worth })),
        }
        while self.last.front().is_some_and(|(oldest, _)| oldest + (PARTS as u64) <= part) {
            self.last.pop_front();
        }
    }

    fn report(&self, elapsed: Duration) -> Learning {
        let newest = self.part_of(elapsed);
        let mut now = Sum::default();
        self.last.iter().filter(|(part, _)| part + PARTS as u64 > newest).for_each(|(_, sum)| now.merge(sum));
        Learning {
            window_seconds: self.length.as_secs_f64(),
            overall: self.overall.truth(),
            first: self.first.truth(),
            now: if elapsed >= 2 * self.length { now.truth() } else { None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_window_stays_and_the_last_one_slides() {
        let mut windows = Windows::new(Duration::from_secs(60));
        let worth = |shown| Worth { shown, random: 0.1, oracle: 0.3 };
        for second in 0..600 {
            windows.add(Duration::from_secs(second), worth(if second < 300 { 0.1 } else { 0.2 }));
        }
        assert!(windows.last.len() <= PARTS);
        let report = windows.report(Duration::from_secs(600));
        let (first, now, overall) = (report.first.unwrap(), report.now.unwrap(), report.overall.unwrap());
        assert_eq!((first.samples, overall.samples), (60, 600));
        assert!((55..=60).contains(&now.samples), "{now:?}");
        assert!(first.known.abs() < 1e-9 && (now.known - 0.5).abs() < 1e-9 && (overall.known - 0.25).abs() < 1e-9);
        // Long after the last visit there is no "now".
        assert_eq!(windows.report(Duration::from_secs(900)).now, None);
    }

    #[test]
    fn overlapping_windows_are_not_compared() {
        let mut windows = Windows::new(Duration::from_secs(60));
        windows.add(Duration::ZERO, Worth { shown: 0.1, random: 0.1, oracle: 0.2 });
        assert_eq!(windows.report(Duration::from_secs(100)).now, None);
        assert!(windows.report(Duration::from_secs(100)).first.is_some());
    }
}
