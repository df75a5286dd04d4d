//! Generated wire types, and `convert`, which turns them into domain types.
//!
//! Always holds: what leaves `convert` is valid; what is malformed becomes a [`convert::WireError`] that names the field.

#![allow(unreachable_pub, clippy::doc_lazy_continuation)]

pub mod convert;

macro_rules! packages {
    ($($name:ident),+) => {$(
        pub mod $name {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/attune.", stringify!($name), ".v1.rs"));
            }
        }
    )+};
}
packages!(state, decision, storage, origin, retrieval, ranking, bandit, llm, telemetry);

/// Every package's descriptors, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
