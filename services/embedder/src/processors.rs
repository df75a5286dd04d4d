//! The three steps of the one consumer and the one of the consumer beside it, each a pure function of what is handed in.

pub(crate) mod bandit;
pub(crate) mod context;
pub(crate) mod embed;
pub(crate) mod insight;
