//! The three steps of the one consumer, each a pure function of what is handed in.

pub(crate) mod bandit;
pub(crate) mod context;
pub(crate) mod embed;
