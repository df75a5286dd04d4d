//! W3C trace context on the wire: `traceparent`, and our threshold in `tracestate`. Hot path: parsed as bytes, without
//! allocation as long as no other vendor's members travel along.

use crate::sampling::Threshold;
use crate::tracestate::{TraceState, trim};
use crate::{Carrier, CarrierMut, Field};
use attune_domain::RequestId;
use std::sync::Arc;

/// A caller's span, as it came over the wire or is about to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: RequestId,
    pub span_id: [u8; 8],
    /// Bit 0 sampled, bit 1 random; the others are zero.
    pub flags: u8,
    /// From `tracestate: ot=th:..`; only looked at when the sampled bit is set.
    pub threshold: Option<Threshold>,
    /// From `tracestate: ot=rv:..`: the 56 bits that decide, where an upstream says that they are not the trace id's.
    pub randomness: Option<u64>,
}

impl TraceParent {
    pub const SAMPLED: u8 = 1;
    pub const RANDOM: u8 = 2;
    /// Of no trace.
    pub(crate) const NONE: Self =
        Self { trace_id: RequestId([0; 16]), span_id: [0; 8], flags: 0, threshold: None, randomness: None };

    pub fn sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// Strict reading of W3C trace context: lower-case hexadecimal, no zero ids, version `ff` refused, a version we do
    /// not know read as version 00 as long as what follows begins with a dash.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_bytes(text.as_bytes())
    }

    fn parse_bytes(bytes: &[u8]) -> Option<Self> {
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
        Some(Self { trace_id: RequestId(trace_id), span_id, flags, ..Self::NONE })
    }

    /// `00-{trace}-{span}-{flags}`.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.to_bytes()).into_owned()
    }

    fn to_bytes(self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace_id.0, &mut text[3..35]);
        write_hex(&self.span_id, &mut text[36..52]);
        write_hex(&[self.flags], &mut text[53..55]);
        text
    }

    /// Reads both headers. Several `traceparent` headers are as bad as none.
    pub fn extract(headers: &impl Carrier) -> Option<Self> {
        Context::read(headers, |_| {}).parent
    }

    /// Writes both headers, replacing what is there. `tracestate` is never written empty.
    pub fn inject(&self, headers: &mut impl CarrierMut) {
        self.inject_with(None, headers);
    }

    /// Ours goes first; `others` are the members of other vendors.
    pub(crate) fn inject_with(&self, others: Option<&str>, headers: &mut impl CarrierMut) {
        headers.replace(Field::TraceParent, Some(&self.to_bytes()));
        let state = self.tracestate(others);
        headers.replace(Field::TraceState, (!state.is_empty()).then_some(state.as_bytes()));
    }

    fn tracestate(&self, others: Option<&str>) -> String {
        tracestate(self.threshold.filter(|_| self.sampled()), self.randomness, others)
    }
}

/// `ot=th:fd70a4,vendor=value`; empty when there is nothing to say.
pub(crate) fn tracestate(threshold: Option<Threshold>, randomness: Option<u64>, others: Option<&str>) -> String {
    let th = threshold.map(|threshold| format!("th:{threshold}"));
    let rv = randomness.map(|randomness| format!("rv:{randomness:014x}"));
    let ours = match (th, rv) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(format!("ot={one}")),
        (Some(th), Some(rv)) => Some(format!("ot={th};{rv}")),
    };
    match (ours, others) {
        (Some(ours), Some(others)) => format!("{ours},{others}"),
        (Some(one), None) => one,
        (None, others) => others.unwrap_or_default().to_owned(),
    }
}

/// What part of a caller's context is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    TraceParent,
    TraceState,
    Baggage,
    /// A sampled bit from outside.
    Sampled,
    /// A debug token that is forged or has expired.
    Debug,
    /// A good debug token, beyond one a second.
    DebugRate,
}

impl Rejected {
    pub(crate) const ALL: [Self; 6] =
        [Self::TraceParent, Self::TraceState, Self::Baggage, Self::Sampled, Self::Debug, Self::DebugRate];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::TraceParent => "traceparent",
            Self::TraceState => "tracestate",
            Self::Baggage => "baggage",
            Self::Sampled => "sampled",
            Self::Debug => "debug",
            Self::DebugRate => "debug_rate",
        }
    }
}

/// Where a local trace hangs: its caller's span, and what other vendors said about the trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) parent: Option<TraceParent>,
    pub(crate) others: Option<Arc<str>>,
}

impl Context {
    /// What cannot be read is left out, and said.
    pub(crate) fn read(from: &impl Carrier, mut rejected: impl FnMut(Rejected)) -> Self {
        let mut values = from.values(Field::TraceParent);
        let Some(first) = values.next() else { return Self::default() };
        let parent = TraceParent::parse_bytes(trim(first)).filter(|_| values.next().is_none());
        let Some(mut parent) = parent else {
            rejected(Rejected::TraceParent);
            return Self::default();
        };
        let state = TraceState::read(from.values(Field::TraceState)).unwrap_or_else(|_| {
            rejected(Rejected::TraceState);
            TraceState::default()
        });
        parent.threshold = state.threshold.filter(|_| parent.sampled());
        parent.randomness = state.randomness;
        Self { parent: Some(parent), others: state.others }
    }

    pub(crate) fn randomness(&self, id: RequestId) -> u64 {
        self.parent.and_then(|parent| parent.randomness).unwrap_or_else(|| id.randomness())
    }

    /// Preserved as it came; set by us where a trace begins.
    pub(crate) fn random_flag(&self) -> u8 {
        self.parent.map_or(TraceParent::RANDOM, |parent| parent.flags & TraceParent::RANDOM)
    }

    /// Under which the caller keeps the trace. One that says sampled and not how likely it was counts as certain.
    pub(crate) fn threshold(&self) -> Option<Threshold> {
        let parent = self.parent.filter(TraceParent::sampled)?;
        Some(parent.threshold.unwrap_or(Threshold::ALWAYS))
    }
}

impl From<Option<TraceParent>> for Context {
    fn from(parent: Option<TraceParent>) -> Self {
        Self { parent, others: None }
    }
}

pub(crate) fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
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

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn write_hex(bytes: &[u8], out: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

pub(crate) fn push_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)].into());
        out.push(DIGITS[usize::from(byte & 15)].into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    const TRACEPARENT: &str = "traceparent";
    const TRACESTATE: &str = "tracestate";
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
        assert_eq!(out[TRACESTATE], "ot=th:fd70a4;rv:6e6d1a75832a2f");

        headers.append(TRACEPARENT, HeaderValue::from_str(&text).unwrap());
        assert_eq!(TraceParent::extract(&headers), None);
        TraceParent { flags: 2, randomness: None, ..parent }.inject(&mut out);
        assert!(!out.contains_key(TRACESTATE), "an unsampled parent writes no tracestate");
    }
}
