//! One suite per trait, run by every back-end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "conformance/backends.rs"]
mod backends;
#[path = "conformance/checkpoints.rs"]
mod checkpoints;
#[path = "conformance/decision_log.rs"]
mod decision_log;
#[path = "conformance/event_log.rs"]
mod event_log;
#[path = "conformance/feature_store.rs"]
mod feature_store;
#[path = "conformance/folders.rs"]
mod folders;

/// A test for each named case on each back-end.
macro_rules! suite {
    ($module:ident: $($case:ident),+ $(,)? => $($backend:ident),+) => {
        crate::suite!(@ $module ($($backend),+) [$($case),+]);
    };
    (@ $module:ident ($($backend:ident),+) $cases:tt) => { $( crate::suite!(@@ $module $backend $cases); )+ };
    (@@ $module:ident $backend:ident [$($case:ident),+]) => {
        mod $backend {$(
            #[tokio::test]
            async fn $case() {
                // An engine that is not installed: the backend has said so.
                let Some(held) = crate::backends::$module::$backend(stringify!($case)).await else { return };
                super::$case(held.store.clone(), &held.time).await;
            }
        )+}
    };
}
pub(crate) use suite;
