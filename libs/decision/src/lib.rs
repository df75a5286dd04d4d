//! The decision itself: everything between scored candidates and a slate, shared by the edge, the bandit service and
//! replay, so that the three cannot differ.
//!
//! Always holds: a draw is a pure function of (seed, item, posterior), never of the other candidates; every function
//! here is deterministic in its arguments; nothing reads a clock or a global generator.

#![warn(clippy::disallowed_macros)]

mod assignment;
mod cohort;
mod decided;
mod digest;
mod draw;
mod merge;
mod posterior;
mod record;
mod scored;
mod slate;

pub use assignment::is_holdout;
pub use cohort::CohortKey;
pub use decided::{Decided, favourites};
pub use digest::{Digest, Stage};
pub use draw::Sampler;
pub use merge::{Outcome, SourceItems, SourceKind, merge};
pub use posterior::Posteriors;
pub use record::{
    Path, SCORED_SLOTS, Slot, decode_record, digest_of, encode_record, pack_scores, pack_slots, packed_score,
    packed_slot, unpack_slots,
};
pub use scored::ScoredItems;
pub use slate::{Choice, Chosen, Policy, Scratch, choose};

pub use attune_proto::decision::v1::DecisionRecord;
