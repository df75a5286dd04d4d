//! What travels with a request through our own code: its span and its deadline.

use crate::Span;
use std::time::Duration;
use tokio::time::Instant;

/// The moment after which an answer is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Instant,
}

/// Stands for no deadline at all: long streams and background work.
const FAR: Duration = Duration::from_secs(30 * 365 * 86400);

impl Deadline {
    pub fn at(at: Instant) -> Self {
        Self { at }
    }

    pub fn after(duration: Duration) -> Self {
        Self { at: Instant::now() + duration.min(FAR) }
    }

    pub fn none() -> Self {
        Self::after(FAR)
    }

    /// Whether this came from [`Deadline::none`] (or is as far away).
    pub fn is_none(&self) -> bool {
        self.remaining() > FAR / 2
    }

    pub fn instant(&self) -> Instant {
        self.at
    }

    /// Zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    pub fn passed(&self) -> bool {
        self.remaining().is_zero()
    }

    /// This deadline, or `max` from now if that is sooner.
    pub fn child(&self, max: Duration) -> Self {
        Self { at: self.at.min(Instant::now() + max.min(FAR)) }
    }
}

/// A request's span and deadline, handed from the door to every stage and call.
#[derive(Debug, Clone)]
pub struct Scope {
    pub span: Span,
    pub deadline: Deadline,
}

impl Scope {
    pub fn new(span: Span, deadline: Deadline) -> Self {
        Self { span, deadline }
    }

    /// Records nothing and has no deadline: for calls outside a request.
    pub fn detached() -> Self {
        Self { span: Span::none(), deadline: Deadline::none() }
    }

    /// The scope the server layer put there; [`Scope::detached`] when the call did not come through it.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(Self::detached)
    }

    /// A child span under the same deadline.
    pub fn child(&self, name: &'static str) -> Self {
        Self { span: self.span.child(name), deadline: self.deadline }
    }

    /// The same span under a deadline at most `max` away.
    pub fn within(&self, max: Duration) -> Self {
        Self { span: self.span.clone(), deadline: self.deadline.child(max) }
    }
}
