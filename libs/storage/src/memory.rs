//! Stores that last as long as the process: for tests, and for trying the platform without a folder.

mod checkpoints;
mod decisions;
mod features;
mod log;

pub use decisions::MemoryDecisionLog;
pub use features::MemoryFeatureStore;
pub use log::MemoryEventLog;
