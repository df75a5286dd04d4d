//! How many traces may be promoted: a budget a second for errors, slow and llm ones, and one a second for each kind of
//! fallback. Time is an argument: what has passed since any fixed moment.
//!
//! Neither looks at a trace's randomness, nor at whether the trace is kept already; that keeps the weights right.
//! Where a bucket of tokens would throw the rest away, the governor keeps a known share of all, and a fallback beyond its
//! one a second falls back on the threshold of normal traces.

use crate::sampling::{Class, Threshold};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// The classes that share the budget. Forced ones are limited where their tokens are checked.
const GOVERNED: [Class; 3] = [Class::Error, Class::Slow, Class::Llm];
/// Kinds of fallback told apart; what comes after is not promoted. They are constants in code, so this is no real limit.
const MAX_FALLBACKS: usize = 256;
const ONE_PER: Duration = Duration::from_secs(1);

/// One process's budget of promoted traces.
pub struct Governor {
    /// Promotions a second.
    budget: f64,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    second: u64,
    /// Promotions asked for in this second, kept or not.
    asked: [u32; GOVERNED.len()],
    thresholds: [Option<Threshold>; GOVERNED.len()],
}

impl Governor {
    pub fn new(budget: u32) -> Self {
        Self { budget: f64::from(budget), window: Mutex::default() }
    }

    /// Counts a promotion and says under which threshold it is granted: that of this second, which follows from what
    /// the second before asked for. Ask once for a trace and class, whatever its randomness.
    pub fn promote(&self, class: Class, now: Duration) -> Threshold {
        let Some(at) = GOVERNED.iter().position(|governed| *governed == class) else { return Threshold::ALWAYS };
        let mut window = self.window.lock();
        self.turn(&mut window, now);
        window.asked[at] = window.asked[at].saturating_add(1);
        window.thresholds[at].unwrap_or(Threshold::ALWAYS)
    }

    /// The highest threshold in force.
    pub fn highest(&self, now: Duration) -> Threshold {
        let mut window = self.window.lock();
        self.turn(&mut window, now);
        window.thresholds.iter().flatten().max().copied().unwrap_or(Threshold::ALWAYS)
    }

    fn turn(&self, window: &mut Window, now: Duration) {
        let second = now.as_secs();
        if second <= window.second {
            return;
        }
        let follows = second == window.second + 1;
        window.thresholds = if follows { self.shares(window.asked) } else { Default::default() };
        window.asked = Default::default();
        window.second = second;
    }

    /// Classes that ask for less than an equal part get all they ask for, and the others share what is left: a storm of
    /// one class does not thin out another.
    fn shares(&self, asked: [u32; GOVERNED.len()]) -> [Option<Threshold>; GOVERNED.len()] {
        let mut order: Vec<usize> = (0..asked.len()).collect();
        order.sort_by_key(|&at| asked[at]);
        let (mut left, mut waiting) = (self.budget, asked.len() as f64);
        let mut thresholds = [None; GOVERNED.len()];
        for at in order {
            let asks = f64::from(asked[at]);
            let granted = asks.min(left / waiting);
            if granted < asks {
                thresholds[at] = Some(Threshold::of_share(granted / asks));
            }
            left -= granted;
            waiting -= 1.0;
        }
        thresholds
    }
}

/// Which fallbacks promote their trace: for a service and a reason, at most one a second.
#[derive(Default)]
pub struct Fallbacks(Mutex<HashMap<(&'static str, &'static str), Duration>>);

impl Fallbacks {
    pub fn admit(&self, service: &'static str, reason: &'static str, now: Duration) -> bool {
        let mut last = self.0.lock();
        if let Some(at) = last.get_mut(&(service, reason)) {
            let due = now >= *at + ONE_PER;
            if due {
                *at = now;
            }
            return due;
        }
        let known = last.len() < MAX_FALLBACKS;
        if known {
            last.insert((service, reason), now);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks `rates` times within each second and gives the thresholds at the end of the last.
    fn after(governor: &Governor, seconds: std::ops::Range<u64>, rates: [u32; 3]) -> [Threshold; 3] {
        let mut last = [Threshold::ALWAYS; 3];
        for second in seconds {
            for (at, class) in GOVERNED.into_iter().enumerate() {
                for n in 0..rates[at] {
                    let now = Duration::from_secs(second) + Duration::from_secs(1) * n / rates[at];
                    last[at] = governor.promote(class, now);
                }
            }
        }
        last
    }

    #[test]
    fn a_storm_is_thinned_to_the_budget_and_spares_the_other_classes() {
        let governor = Governor::new(200);
        assert_eq!(after(&governor, 10..12, [60, 60, 60]), [Threshold::ALWAYS; 3]);
        // The second in which it begins is not governed yet.
        assert_eq!(after(&governor, 12..13, [5_000, 20, 50])[0], Threshold::ALWAYS);
        let [error, slow, llm] = after(&governor, 13..20, [5_000, 20, 50]);
        assert!((error.weight() - 5_000.0 / 130.0).abs() < 0.01, "{}", error.weight());
        assert_eq!([slow, llm], [Threshold::ALWAYS; 2]);
        assert_eq!(governor.highest(Duration::from_secs(20)), error);
        let [error, slow, _] = after(&governor, 20..23, [1_000, 1_000, 0]);
        assert!((error.weight() - 10.0).abs() < 0.01 && error == slow);
        // A quiet second ends it.
        assert_eq!(governor.promote(Class::Error, Duration::from_secs(30)), Threshold::ALWAYS);
        assert_eq!(governor.promote(Class::Forced, Duration::from_secs(30)), Threshold::ALWAYS);
    }

    #[test]
    fn no_budget_keeps_next_to_nothing() {
        let governor = Governor::new(0);
        assert_eq!(after(&governor, 0..3, [10, 0, 0])[0], Threshold::NEVER);
    }

    #[test]
    fn one_fallback_a_second_for_each_service_and_reason() {
        let fallbacks = Fallbacks::default();
        let ms = Duration::from_millis;
        let mut admitted = HashMap::new();
        for at in 0..10_000 {
            for key in
                [("origin", "ranking_unavailable"), ("origin", "bandit_unavailable"), ("edge", "ranking_unavailable")]
            {
                *admitted.entry(key).or_insert(0) += u32::from(fallbacks.admit(key.0, key.1, ms(at)));
            }
        }
        assert_eq!(admitted.into_values().collect::<Vec<_>>(), [10, 10, 10]);
    }
}
