//! Calls between services: channels, deadlines, the circuit breaker and the closed list of error codes.
//!
//! Always holds: a call made through [`request`] ends by its deadline, whatever the other side does; and a dependency
//! that keeps failing costs a few time-outs, then is answered for at once until it recovers.
//! Nothing is called twice by itself: who calls knows whether it may, and then asks for it ([`while_unavailable`]).

#![warn(clippy::disallowed_macros)]

mod again;
mod breaker;
mod channel;
mod code;

pub use again::while_unavailable;
pub use attune_telemetry::{Deadline, Scope};
pub use breaker::BreakerConfig;
pub use channel::{Channel, ChannelError, ClientConfig};
pub use code::{Code, Error};

use std::time::Duration;

/// A request that carries the scope, under the scope's deadline or `max` from now, whichever is sooner. The client
/// sends the deadline along and enforces it here too.
pub fn request<T>(message: T, scope: &Scope, max: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(scope.within(max));
    request
}
