//! W3C trace context on the wire: `traceparent`, and our threshold in `tracestate`.

use crate::sampling::Threshold;
use attune_domain::RequestId;
use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A caller's span, as it came over the wire or is about to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: RequestId,
    pub span_id: [u8; 8],
    /// Bit 0 sampled, bit 1 random; the others are zero.
    pub flags: u8,
    /// From `tracestate: ot=th:..`; only looked at when the sampled bit is set.
    pub threshold: Option<Threshold>,
}

impl TraceParent {
    pub const SAMPLED: u8 = 1;
    pub const RANDOM: u8 = 2;

    pub fn sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// Strict reading of W3C trace context: lower-case hexadecimal, no zero ids, version `ff` refused, a version we do
    /// not know read as version 00 as long as what follows begins with a dash.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() < 55 || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let [version] = hex::<1>(&bytes[..2])?;
        match version {
            0xff => return None,
            0 if bytes.len() != 55 => return None,
            _ if bytes.len() > 55 && bytes[55] != b'-' => return None,
            _ => {}
        }
        let trace_id = hex::<16>(&bytes[3..35])?;
        let span_id = hex::<8>(&bytes[36..52])?;
        let [flags] = hex::<1>(&bytes[53..55])?;
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        let flags = flags & (Self::SAMPLED | Self::RANDOM);
        Some(Self { trace_id: RequestId(trace_id), span_id, flags, threshold: None })
    }

    /// `00-{trace}-{span}-{flags}`.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        push_hex(&self.trace_id.0, &mut text);
        text.push('-');
        push_hex(&self.span_id, &mut text);
        text.push('-');
        push_hex(&[self.flags], &mut text);
        text
    }

    /// Reads both headers. Several `traceparent` headers are as bad as none.
    pub fn extract(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(only), None) = (values.next(), values.next()) else { return None };
        let mut parent = Self::parse(only.to_str().ok()?.trim_matches([' ', '\t']))?;
        if parent.sampled() {
            let states = headers.get_all(TRACESTATE).iter().filter_map(|v| v.to_str().ok());
            parent.threshold = states.flat_map(|s| s.split(',')).find_map(threshold_of);
        }
        Some(parent)
    }

    /// Writes both headers, replacing what is there. `tracestate` is never written empty.
    pub fn inject(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.to_text()) {
            headers.insert(TRACEPARENT, value);
        }
        headers.remove(TRACESTATE);
        if let (true, Some(threshold)) = (self.sampled(), self.threshold)
            && let Ok(value) = HeaderValue::from_str(&threshold.tracestate())
        {
            headers.insert(TRACESTATE, value);
        }
    }
}

/// `ot=rv:..;th:..` gives the threshold; other members give none.
fn threshold_of(member: &str) -> Option<Threshold> {
    let fields = member.trim_matches([' ', '\t']).strip_prefix("ot=")?;
    fields.split(';').find_map(|field| Threshold::parse(field.strip_prefix("th:")?))
}

fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

pub(crate) fn push_hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)].into());
        out.push(DIGITS[usize::from(byte & 15)].into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn check(text: &str) -> Option<TraceParent> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(text).ok()?);
        TraceParent::extract(&headers)
    }

    /// Cases of the W3C trace-context test suite.
    #[test]
    fn golden_vectors() {
        let good = check(&format!("00-{TRACE}-b7ad6b7169203331-01")).unwrap();
        assert_eq!(good.trace_id.to_string(), TRACE);
        assert_eq!(good.to_text(), format!("00-{TRACE}-b7ad6b7169203331-01"));
        for accepted in [
            format!("cc-{TRACE}-b7ad6b7169203331-01"),
            format!("cc-{TRACE}-b7ad6b7169203331-01-what-the-future-will-be-like"),
            format!("  00-{TRACE}-b7ad6b7169203331-01\t"),
        ] {
            assert!(check(&accepted).is_some(), "{accepted}");
        }
        for refused in [
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{TRACE}-b7ad6b7169203331-01-extra"),
            format!("00-{TRACE}-b7ad6b7169203331-01."),
            format!("cc-{TRACE}-b7ad6b7169203331-01.what"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-B7AD6B7169203331-01"),
            format!("00-{TRACE}-b7ad6b7169203331-0"),
            format!("00-{TRACE}-b7ad6b7169203331"),
            format!("0-{TRACE}-b7ad6b7169203331-01"),
            format!(".0-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{TRACE}-b7ad6b7169203331-.1"),
            format!("00-{TRACE}-b7ad6b716920333-01"),
            format!("00-{}-b7ad6b7169203331-01", &TRACE[1..]),
            String::new(),
        ] {
            assert_eq!(check(&refused), None, "{refused}");
        }
    }

    #[test]
    fn the_random_bit_survives_and_unknown_bits_do_not() {
        let parent = check(&format!("00-{TRACE}-b7ad6b7169203331-ff")).unwrap();
        assert_eq!(parent.flags, TraceParent::SAMPLED | TraceParent::RANDOM);
        assert_eq!(check(&format!("00-{TRACE}-b7ad6b7169203331-02")).unwrap().flags, TraceParent::RANDOM);
    }

    #[test]
    fn two_parents_are_none_and_thresholds_travel() {
        let mut headers = HeaderMap::new();
        let text = format!("00-{TRACE}-b7ad6b7169203331-03");
        headers.append(TRACEPARENT, HeaderValue::from_str(&text).unwrap());
        headers.append(TRACESTATE, HeaderValue::from_static("congo=t61rcWkgMzE"));
        headers.append(TRACESTATE, HeaderValue::from_static("rojo=00f067, ot=rv:6e6d1a75832a2f;th:fd70a4"));
        let parent = TraceParent::extract(&headers).unwrap();
        assert_eq!(parent.threshold.unwrap().to_string(), "fd70a4");

        let mut out = HeaderMap::new();
        parent.inject(&mut out);
        assert_eq!(out[TRACEPARENT], text);
        assert_eq!(out[TRACESTATE], "ot=th:fd70a4");

        headers.append(TRACEPARENT, HeaderValue::from_str(&text).unwrap());
        assert_eq!(TraceParent::extract(&headers), None);
        TraceParent { flags: 2, ..parent }.inject(&mut out);
        assert!(!out.contains_key(TRACESTATE), "an unsampled parent writes no tracestate");
    }
}
