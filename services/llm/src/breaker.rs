//! Stops asking a back-end that keeps failing, and asks again with one call at a time.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
enum State {
    /// Consecutive failures.
    Closed(u32),
    OpenUntil(Instant),
    /// One call is finding out.
    Probing,
}

#[derive(Debug)]
pub struct Breaker {
    failures: u32,
    open_for: Duration,
    state: Mutex<State>,
}

impl Breaker {
    /// Opens after `failures` consecutive failures, for `open_for`.
    pub fn new(failures: u32, open_for: Duration) -> Arc<Self> {
        Arc::new(Self { failures: failures.max(1), open_for, state: Mutex::new(State::Closed(0)) })
    }

    /// Permission for one call, if there is any hope.
    pub fn pass(self: &Arc<Self>, now: Instant) -> Option<Pass> {
        let mut state = self.state.lock();
        let probe = match *state {
            State::Closed(_) => false,
            State::OpenUntil(until) if now >= until => {
                *state = State::Probing;
                true
            }
            State::OpenUntil(_) | State::Probing => return None,
        };
        Some(Pass { breaker: self.clone(), probe, taken_at: now, reported: false })
    }

    pub fn is_closed(&self) -> bool {
        matches!(*self.state.lock(), State::Closed(_))
    }
}

/// Reports how its call went. Dropped without a word it says nothing, and a probe may be tried again at once.
#[derive(Debug)]
pub struct Pass {
    breaker: Arc<Breaker>,
    probe: bool,
    taken_at: Instant,
    reported: bool,
}

impl Pass {
    pub fn succeeded(mut self) {
        self.reported = true;
        let mut state = self.breaker.state.lock();
        if self.probe || matches!(*state, State::Closed(_)) {
            *state = State::Closed(0);
        }
    }

    pub fn failed(mut self, now: Instant) {
        self.reported = true;
        let mut state = self.breaker.state.lock();
        let open = State::OpenUntil(now + self.breaker.open_for);
        match *state {
            State::Probing if self.probe => *state = open,
            State::Closed(n) if n + 1 >= self.breaker.failures => *state = open,
            State::Closed(n) => *state = State::Closed(n + 1),
            // A call from before the breaker opened has nothing to add.
            State::OpenUntil(_) | State::Probing => {}
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe && !self.reported {
            *self.breaker.state.lock() = State::OpenUntil(self.taken_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_probes_once_and_closes() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let breaker = Breaker::new(2, Duration::from_millis(100));
        let late = breaker.pass(at(0)).unwrap();
        breaker.pass(at(0)).unwrap().failed(at(0));
        breaker.pass(at(1)).unwrap().succeeded();
        breaker.pass(at(2)).unwrap().failed(at(2));
        assert!(breaker.is_closed(), "a success forgives");
        breaker.pass(at(3)).unwrap().failed(at(3));
        assert!(breaker.pass(at(102)).is_none());
        late.succeeded();
        assert!(breaker.pass(at(102)).is_none(), "a call from before proves nothing");

        let probe = breaker.pass(at(103)).unwrap();
        assert!(breaker.pass(at(104)).is_none(), "one probe at a time");
        drop(probe);
        breaker.pass(at(105)).expect("a cancelled probe leaves room for another").failed(at(105));
        assert!(breaker.pass(at(204)).is_none());
        breaker.pass(at(205)).unwrap().succeeded();
        assert!(breaker.pass(at(206)).is_some() && breaker.is_closed());
    }
}
