//! How processes tell each other which traces are promoted: sideways, to those that neither called nor were called.
//!
//! Always holds: publishing never waits, every queue is bounded and what it loses is counted. A lost decision costs the
//! parts that waited for it, never more: those above and below the promotion learn of it by headers.

pub mod grpc;
mod join;
mod memory;
mod outbox;

pub use grpc::{decode, encode};
pub use memory::MemoryBus;
pub(crate) use outbox::Outbox;

use crate::sampling::Verdict;
use attune_domain::RequestId;

/// A promotion, as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub trace_id: RequestId,
    pub verdict: Verdict,
    /// Which process said so; random, new at each start.
    pub origin: u32,
    /// When it told the others: Unix milliseconds, the low 32 bits.
    pub unix_ms: u32,
}

/// A way from each process to all others.
pub trait DecisionBus: Send + Sync + 'static {
    /// Sends, or drops and counts. Never waits.
    fn publish(&self, decisions: Vec<Decision>);
    /// Decisions of this process that are known not to have reached the others.
    fn lost(&self) -> u64;
}

/// Takes what the others decided.
pub trait DecisionSink: Send + Sync + 'static {
    fn hear(&self, decisions: &[Decision]);
}
