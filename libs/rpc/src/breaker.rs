//! A circuit breaker: after enough failures in a row calls fail at once, but for one probe at a time.

use attune_config::HumanDuration;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// When to stop calling, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// This many calls in a row that found nobody, or nobody in time, open the circuit.
    pub failures: u32,
    /// How long it stays open before one call may probe.
    pub open_for: HumanDuration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, open_for: HumanDuration::millis(500) }
    }
}

/// One per channel.
#[derive(Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// One call is trying; should it never report, the next may try at `until`.
    Probing {
        until: Instant,
    },
}

/// Whether a call may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    Go,
    /// Answer `unavailable` at once.
    Refuse,
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        Self { config, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    pub(crate) fn ask(&self, now: Instant) -> Permit {
        let mut state = self.state.lock();
        match *state {
            State::Closed { .. } => Permit::Go,
            State::Open { until } | State::Probing { until } if now >= until => {
                *state = State::Probing { until: now + self.config.open_for.get() };
                Permit::Go
            }
            State::Open { .. } | State::Probing { .. } => Permit::Refuse,
        }
    }

    pub(crate) fn succeeded(&self) {
        *self.state.lock() = State::Closed { failures: 0 };
    }

    /// True when this failure opened the circuit.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let open = State::Open { until: now + self.config.open_for.get() };
        match *state {
            State::Closed { failures } if failures + 1 < self.config.failures => {
                *state = State::Closed { failures: failures + 1 };
                false
            }
            State::Closed { .. } => {
                *state = open;
                true
            }
            State::Open { .. } => false,
            State::Probing { .. } => {
                *state = open;
                false
            }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        !matches!(*self.state.lock(), State::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_opens_probes_once_and_closes() {
        let breaker = Breaker::new(BreakerConfig { failures: 3, open_for: HumanDuration::millis(100) });
        let start = Instant::now();
        assert!(!breaker.failed(start));
        assert!(!breaker.failed(start));
        breaker.succeeded();
        assert!(!breaker.failed(start) && !breaker.failed(start), "a success forgets the failures");
        assert!(breaker.failed(start), "the third in a row opens");
        assert_eq!(breaker.ask(start + Duration::from_millis(99)), Permit::Refuse);
        let later = start + Duration::from_millis(100);
        assert_eq!(breaker.ask(later), Permit::Go, "one probe");
        assert_eq!(breaker.ask(later), Permit::Refuse, "and only one");
        assert!(!breaker.failed(later), "a failed probe opens again without counting as a new opening");
        assert_eq!(breaker.ask(later + Duration::from_millis(99)), Permit::Refuse);
        let last = later + Duration::from_millis(100);
        assert_eq!(breaker.ask(last), Permit::Go);
        breaker.succeeded();
        assert_eq!(breaker.ask(last), Permit::Go);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_probe_that_never_reports_does_not_block_for_ever() {
        let breaker = Breaker::new(BreakerConfig { failures: 1, open_for: HumanDuration::millis(100) });
        let start = Instant::now();
        breaker.failed(start);
        assert_eq!(breaker.ask(start + Duration::from_millis(100)), Permit::Go);
        assert_eq!(breaker.ask(start + Duration::from_millis(200)), Permit::Go);
    }
}
