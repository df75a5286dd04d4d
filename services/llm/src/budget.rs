//! The daily budget in dollars.
//!
//! A call first reserves what it can cost at most; afterwards it is charged what it did cost. So the sum of the
//! charges of a UTC day exceeds the budget only if a provider counts more tokens than the call's own bound.
//! The window lives in memory: a restart begins it anew, and each process has a budget of its own. The counter of
//! dollars spent is the figure to alert on.

use attune_domain::UnixMillis;
use parking_lot::Mutex;
use std::sync::Arc;

const DAY_MILLIS: i64 = 86_400_000;

/// Billionths of a dollar.
pub type NanoDollars = u64;

pub const fn dollars(nanos: NanoDollars) -> f64 {
    nanos as f64 / 1e9
}

/// Rounds to the nearest billionth; negative and NaN are nothing.
pub fn nano_dollars(dollars: f64) -> NanoDollars {
    (dollars * 1e9).round() as u64
}

/// What one token costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    pub input: NanoDollars,
    pub output: NanoDollars,
}

impl Price {
    /// From dollars per million tokens, as providers list them.
    pub fn per_million(input: f64, output: f64) -> Self {
        Self { input: nano_dollars(input / 1e6), output: nano_dollars(output / 1e6) }
    }

    pub const fn of(self, tokens: Tokens) -> NanoDollars {
        (tokens.input as u64)
            .saturating_mul(self.input)
            .saturating_add((tokens.output as u64).saturating_mul(self.output))
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    pub input: u32,
    pub output: u32,
}

impl Tokens {
    /// An estimate from above for text of Latin letters, where a token has about four bytes.
    pub fn estimate(bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(3)).unwrap_or(u32::MAX)
    }
}

#[derive(Debug, Default)]
struct Window {
    day: i64,
    spent: NanoDollars,
    reserved: NanoDollars,
}

/// Told of every charge.
pub type OnSpent = Box<dyn Fn(NanoDollars) + Send + Sync>;

pub struct Budget {
    daily: NanoDollars,
    window: Mutex<Window>,
    on_spent: OnSpent,
}

impl Budget {
    pub fn new(daily: NanoDollars, on_spent: OnSpent) -> Arc<Self> {
        Arc::new(Self { daily, window: Mutex::default(), on_spent })
    }

    pub const fn daily(&self) -> NanoDollars {
        self.daily
    }

    pub fn spent(&self, now: UnixMillis) -> NanoDollars {
        let window = self.window.lock();
        if window.day == day(now) { window.spent } else { 0 }
    }

    /// None when the day's budget cannot hold `at_most` more.
    pub fn reserve(self: &Arc<Self>, now: UnixMillis, at_most: NanoDollars) -> Option<Reservation> {
        let mut window = self.window.lock();
        if window.day != day(now) {
            *window = Window { day: day(now), ..Window::default() };
        }
        let total = window.spent.saturating_add(window.reserved).saturating_add(at_most);
        if total > self.daily {
            return None;
        }
        window.reserved += at_most;
        Some(Reservation { budget: self.clone(), day: window.day, reserved: at_most, cost: 0 })
    }

    fn settle(&self, reservation: &Reservation) {
        let mut window = self.window.lock();
        // A call that began yesterday was yesterday's.
        if window.day == reservation.day {
            window.reserved = window.reserved.saturating_sub(reservation.reserved);
            window.spent = window.spent.saturating_add(reservation.cost);
        }
        drop(window);
        if reservation.cost > 0 {
            (self.on_spent)(reservation.cost);
        }
    }
}

fn day(now: UnixMillis) -> i64 {
    now.div_euclid(DAY_MILLIS)
}

/// Part of the budget held by one call. Dropped, even by a caller that went away, it charges what the call has cost.
pub struct Reservation {
    budget: Arc<Budget>,
    day: i64,
    reserved: NanoDollars,
    cost: NanoDollars,
}

impl Reservation {
    /// What the call has cost until now.
    pub fn cost_is(&mut self, cost: NanoDollars) {
        self.cost = cost;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.settle(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn the_day_is_never_overdrawn_and_ends_at_midnight() {
        let total = Arc::new(AtomicU64::new(0));
        let sum = total.clone();
        let budget = Budget::new(100, Box::new(move |n| _ = sum.fetch_add(n, Ordering::Relaxed)));
        let mut first = budget.reserve(5, 60).unwrap();
        assert!(budget.reserve(5, 60).is_none(), "the first might still cost 60");
        first.cost_is(10);
        drop(first);
        assert_eq!(budget.spent(6), 10);
        let mut second = budget.reserve(6, 90).unwrap();
        assert!(budget.reserve(6, 1).is_none());

        let tomorrow = DAY_MILLIS;
        assert_eq!(budget.spent(tomorrow), 0);
        let third = budget.reserve(tomorrow, 100).unwrap();
        second.cost_is(70);
        drop(second);
        assert_eq!(budget.spent(tomorrow), 0, "yesterday's call is not charged to today");
        assert!(budget.reserve(tomorrow, 1).is_none(), "nor does it free what today holds");
        drop(third);
        assert!(budget.reserve(tomorrow, 100).is_some(), "an unused reservation costs nothing");
        assert_eq!(total.load(Ordering::Relaxed), 80);
    }

    #[test]
    fn prices_are_per_million_tokens() {
        let price = Price::per_million(0.15, 0.6);
        assert_eq!(price.of(Tokens { input: 1_000_000, output: 0 }), nano_dollars(0.15));
        assert_eq!(price.of(Tokens { input: 100, output: 50 }), 100 * 150 + 50 * 600);
        assert_eq!(nano_dollars(f64::NAN), 0);
        assert_eq!(Price { input: u64::MAX, output: 1 }.of(Tokens { input: 2, output: 2 }), u64::MAX);
        assert!(Budget::new(0, Box::new(|_| {})).reserve(0, 1).is_none());
        assert!(Budget::new(0, Box::new(|_| {})).reserve(0, 0).is_some(), "a free model needs no budget");
    }
}
