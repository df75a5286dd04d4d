//! Tower layers that carry a [`Scope`](crate::Scope) over gRPC: spans, deadlines, verdicts and request metrics.
//!
//! The same layers wrap a call over a socket and a call to a server value in the same process.

mod client;
mod methods;
mod server;
mod status;

pub use client::{GrpcClient, GrpcClientLayer};
pub(crate) use methods::OTHER;
pub use methods::{METHODS, Method};
pub use server::{GrpcServer, GrpcServerLayer};
pub(crate) use status::CODES;
pub use status::{code_name, http_status, is_failure};

use crate::sampling::{Threshold, Verdict};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use tonic::Code;

/// How a callee tells its caller that the trace must be kept.
const VERDICT: HeaderName = HeaderName::from_static("x-pz-verdict");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What a callee says about its part of the trace: `1;k=<bits>;rec=<0|1>;m=<n>`, and `;t=<threshold>` where it knows one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subtrace {
    /// [`Class`](crate::Class) bits of the subtree, and the smallest threshold it has heard of.
    pub(crate) verdict: Verdict,
    /// Whether the callee recorded its spans.
    pub(crate) recorded: bool,
    /// How many of its own callees, and theirs, did not.
    pub(crate) missing: u16,
}

impl Subtrace {
    fn write(self, headers: &mut HeaderMap) {
        // The two that almost every answer has.
        let value = match self {
            Self { verdict: Verdict::NONE, recorded: true, missing: 0 } => {
                Ok(HeaderValue::from_static("1;k=0;rec=1;m=0"))
            }
            Self { verdict: Verdict::NONE, recorded: false, missing: 0 } => {
                Ok(HeaderValue::from_static("1;k=0;rec=0;m=0"))
            }
            Self { verdict: Verdict { threshold, reasons }, recorded, missing } => {
                let recorded = u8::from(recorded);
                let known = if threshold == Threshold::NEVER { String::new() } else { format!(";t={threshold}") };
                HeaderValue::from_str(&format!("1;k={reasons};rec={recorded};m={missing}{known}"))
            }
        };
        if let Ok(value) = value {
            headers.insert(VERDICT, value);
        }
    }

    /// None when there is none that we understand. Without `rec` or `m` nothing is missing.
    fn read(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(VERDICT)?.to_str().ok()?.strip_prefix("1;")?;
        let field = |name: &str| text.split(';').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let bits: u8 = field("k")?.parse().ok()?;
        let recorded = field("rec").is_none_or(|recorded| recorded != "0");
        let missing = field("m").map_or(Some(0), |missing| missing.parse().ok())?;
        let threshold = match field("t") {
            Some(digits) => Threshold::parse(digits)?,
            // One that only names its reasons keeps the trace for certain.
            None if bits != 0 => Threshold::ALWAYS,
            None => Threshold::NEVER,
        };
        let verdict = Verdict { threshold, reasons: bits & Verdict::ALL_REASONS };
        Some(Self { verdict, recorded, missing })
    }
}

fn read_status(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// At most eight digits and a unit. Rounded up, so that the callee does not give up before its caller.
fn write_timeout(timeout: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let micros = timeout.as_nanos().div_ceil(1000).max(1);
    if micros <= MOST {
        format!("{micros}u")
    } else if timeout.as_millis() < MOST {
        format!("{}m", timeout.as_micros().div_ceil(1000))
    } else {
        format!("{}S", timeout.as_millis().div_ceil(1000).min(MOST))
    }
}

fn read_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_travel() {
        for (timeout, text) in [
            (Duration::from_millis(250), "250000u"),
            (Duration::from_secs(600), "600000m"),
            (Duration::from_secs(1_000_000), "1000000S"),
            (Duration::ZERO, "1u"),
        ] {
            assert_eq!(write_timeout(timeout), text);
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, text.parse().unwrap());
            assert_eq!(read_timeout(&headers).unwrap(), timeout.max(Duration::from_micros(1)));
        }
        for bad in ["", "5", "u", "123456789u", "-1S", "1x", "1.5S", "é"] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            assert_eq!(read_timeout(&headers), None, "{bad}");
        }
    }

    #[test]
    fn verdicts_travel() {
        let mut headers = HeaderMap::new();
        let threshold = |digits| Threshold::parse(digits).unwrap();
        for (threshold, reasons, recorded, missing, text) in [
            (Threshold::NEVER, 0, true, 0, "1;k=0;rec=1;m=0"),
            (Threshold::NEVER, 0, false, 0, "1;k=0;rec=0;m=0"),
            (threshold("fd70a4"), 0, true, 0, "1;k=0;rec=1;m=0;t=fd70a4"),
            (Threshold::ALWAYS, 10, true, 0, "1;k=10;rec=1;m=0;t=0"),
            (threshold("8"), 24, false, 65535, "1;k=24;rec=0;m=65535;t=8"),
        ] {
            let subtrace = Subtrace { verdict: Verdict { threshold, reasons }, recorded, missing };
            subtrace.write(&mut headers);
            assert_eq!(headers[VERDICT], text);
            assert_eq!(Subtrace::read(&headers), Some(subtrace));
        }
        headers.insert(VERDICT, "1;k=255;new=x".parse().unwrap());
        let verdict = Verdict { threshold: Threshold::ALWAYS, reasons: 31 };
        assert_eq!(Subtrace::read(&headers), Some(Subtrace { verdict, recorded: true, missing: 0 }));
        for bad in ["2;k=8", "1;k=999", "1;x=1", "", "1;k=1;m=65536", "1;k=-1", "1;k=8;t=", "1;k=8;t=0x1"] {
            headers.insert(VERDICT, bad.parse().unwrap());
            assert_eq!(Subtrace::read(&headers), None, "{bad}");
        }
    }
}
