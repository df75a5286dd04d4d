//! Tower layers that carry a [`Scope`](crate::Scope) over gRPC: spans, deadlines, verdicts and request metrics.
//!
//! The same layers wrap a call over a socket and a call to a server value in the same process.

mod client;
mod methods;
mod server;
mod status;

pub use client::{GrpcClient, GrpcClientLayer};
pub use methods::{METHODS, Method};
pub use server::{GrpcServer, GrpcServerLayer};
pub use status::{code_name, http_status, is_failure};

use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use tonic::Code;

/// How a callee tells its caller that the trace must be kept.
const VERDICT: HeaderName = HeaderName::from_static("x-pz-verdict");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// `1;k=<bits>;rec=1;m=0`: version, reasons of the subtree, that it recorded, and that none of its own callees is missing.
fn write_verdict(bits: u8, headers: &mut HeaderMap) {
    if bits != 0
        && let Ok(value) = HeaderValue::from_str(&format!("1;k={bits};rec=1;m=0"))
    {
        headers.insert(VERDICT, value);
    }
}

/// The reason bits, zero when there is no verdict that we understand.
fn read_verdict(headers: &HeaderMap) -> u8 {
    let bits = || {
        let fields = headers.get(VERDICT)?.to_str().ok()?.strip_prefix("1;")?;
        let bits: u8 = fields.split(';').find_map(|field| field.strip_prefix("k="))?.parse().ok()?;
        Some(bits & 15)
    };
    bits().unwrap_or(0)
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
        write_verdict(0, &mut headers);
        assert!(headers.is_empty());
        write_verdict(10, &mut headers);
        assert_eq!(headers[VERDICT], "1;k=10;rec=1;m=0");
        assert_eq!(read_verdict(&headers), 10);
        for bad in ["2;k=8", "1;k=999", "1;x=1", ""] {
            headers.insert(VERDICT, bad.parse().unwrap());
            assert_eq!(read_verdict(&headers), 0, "{bad}");
        }
    }
}
