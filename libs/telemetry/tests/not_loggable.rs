//! What does not fit into a log line: nothing that names a visitor or an item, and nothing from outside.
//!
//! That no other crate can make its own types fit is said and checked in the documentation of the traits.

use attune_telemetry::{FeedbackAccepted, LogEvent, Loggable, Notice, RequestFailed};
use std::marker::PhantomData;

/// Whether a type implements a trait: the constant of its own, which is there only then, goes before the trait's.
macro_rules! implements {
    ($type:ty: $bound:path) => {{
        #[allow(dead_code, reason = "one of the two is not used")]
        struct Probe<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code, reason = "not used where it does hold")]
        trait Otherwise {
            const HOLDS: bool = false;
        }
        impl<T: ?Sized> Otherwise for Probe<T> {}
        #[allow(dead_code, reason = "not there where it does not hold")]
        impl<T: ?Sized + $bound> Probe<T> {
            const HOLDS: bool = true;
        }
        <Probe<$type>>::HOLDS
    }};
}

macro_rules! none_is_loggable {
    ($($type:ty),+ $(,)?) => {
        $(assert!(!implements!($type: Loggable), "{} fits into a log line", stringify!($type));)+
    };
}

#[test]
fn nothing_from_outside_can_be_logged() {
    assert!(implements!(u64: Loggable) && implements!(attune_domain::Level: Loggable));
    none_is_loggable!(
        String,
        &str,
        &'static str,
        str,
        Box<str>,
        std::borrow::Cow<'static, str>,
        char,
        attune_domain::ItemId,
        attune_domain::ItemIx,
        Vec<attune_domain::ItemId>,
        attune_domain::Uid,
        Vec<f32>,
        [f32; 4],
        Vec<u8>,
        [u8; 16],
        bytes::Bytes,
        serde_json::Value,
        http::HeaderMap,
        http::HeaderValue,
        http::Uri,
        http::Method,
        std::net::IpAddr,
        std::path::PathBuf,
        attune_config::Secret,
        std::io::Error,
        anyhow::Error,
        Box<dyn std::error::Error>,
    );
}

/// A request's event waits for its trace's verdict: the way that does not wait refuses it.
#[test]
fn a_requests_event_is_no_notice() {
    assert!(implements!(RequestFailed: Notice));
    assert!(implements!(FeedbackAccepted: LogEvent) && !implements!(FeedbackAccepted: Notice));
}
