//! How a request's trace begins: adopted from a caller of ours, or at the door to the world, where nothing a caller says
//! about tracing is believed.

use crate::catalogue::names::TRACE_CONTEXT_REJECTED;
use crate::context::{Context, Rejected};
use crate::{Baggage, Carrier, Class, Counter, Field, Kind, Metrics, Span, Telemetry};
use attune_config::Secret;
use attune_domain::{RequestId, UnixMillis};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Counts what was not taken.
pub(crate) struct Rejections([Counter; Rejected::ALL.len()]);

impl Rejections {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self(Rejected::ALL.map(|why| metrics.counter(&TRACE_CONTEXT_REJECTED, &[why.as_str()])))
    }

    fn count(&self, why: Rejected) {
        self.0[why as usize].inc();
    }
}

impl Telemetry {
    /// Begins a local root under a caller of ours, with its trace and baggage; under an id of its own without a caller.
    pub fn adopt(&self, name: &'static str, kind: Kind, headers: &impl Carrier) -> Span {
        if !self.records() {
            return Span::none();
        }
        let context = Context::read(headers, |why| self.rejections().count(why));
        let id = context.parent.map_or_else(|| self.new_id(), |parent| parent.trace_id);
        let span = Span::root(self, name, kind, id, context);
        match Baggage::read(headers) {
            Ok(Some(baggage)) => span.carry(baggage),
            Ok(None) => {}
            Err(_) => self.rejections().count(Rejected::Baggage),
        }
        span
    }

    /// Begins a local root for somebody outside. Their trace becomes a link; their sampled bit, `tracestate` and baggage
    /// have no effect; a signed debug token makes the class `forced`, once a second at most.
    pub fn admit(&self, name: &'static str, kind: Kind, headers: &impl Carrier, id: RequestId) -> Span {
        if !self.records() {
            return Span::none();
        }
        let span = Span::root(self, name, kind, id, Context::default());
        let context = Context::read(headers, |why| self.rejections().count(why));
        if let Some(parent) = context.parent {
            span.link(parent);
            if parent.sampled() {
                self.rejections().count(Rejected::Sampled);
            }
        }
        if headers.values(Field::Baggage).next().is_some() {
            self.rejections().count(Rejected::Baggage);
        }
        if let Some(token) = headers.values(Field::Debug).next() {
            match self.debug_door().open(token, self.now()) {
                Ok(()) => span.mark(Class::Forced),
                Err(why) => self.rejections().count(why),
            }
        }
        span
    }
}

/// How far ahead a token may expire.
const MOST_AHEAD_MS: i64 = 24 * 3_600_000;
const EVERY_MS: i64 = 1000;

/// Checks `x-pz-debug` tokens.
pub(crate) struct DebugDoor {
    key: Option<Secret>,
    last: AtomicI64,
}

impl DebugDoor {
    pub(crate) fn new(key: Option<Secret>) -> Self {
        Self { key, last: AtomicI64::new(i64::MIN) }
    }

    fn open(&self, token: &[u8], now: UnixMillis) -> Result<(), Rejected> {
        let key = self.key.as_ref().ok_or(Rejected::Debug)?;
        let expiry = check(key, token).ok_or(Rejected::Debug)?;
        if !(now..now.saturating_add(MOST_AHEAD_MS)).contains(&expiry) {
            return Err(Rejected::Debug);
        }
        let free = |last: i64| (now.saturating_sub(last) >= EVERY_MS).then_some(now);
        self.last.fetch_update(Relaxed, Relaxed, free).map(drop).map_err(|_| Rejected::DebugRate)
    }
}

/// The token that makes the edge keep a request's trace, good until `expiry`: `<milliseconds>.<HMAC-SHA256 in hexadecimal>`.
pub fn debug_token(key: &Secret, expiry: UnixMillis) -> String {
    let mut text = format!("{expiry}.");
    crate::context::push_hex(&keyed(key, expiry).finalize().into_bytes(), &mut text);
    text
}

fn check(key: &Secret, token: &[u8]) -> Option<UnixMillis> {
    let (expiry, tag) = std::str::from_utf8(token).ok()?.split_once('.')?;
    let expiry: UnixMillis = expiry.parse().ok().filter(|at| *at > 0)?;
    let tag = crate::context::hex::<32>(tag.as_bytes()).filter(|_| tag.len() == 64)?;
    keyed(key, expiry).verify_slice(&tag).is_ok().then_some(expiry)
}

fn keyed(key: &Secret, expiry: UnixMillis) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    mac.update(format!("attune debug token {expiry}").as_bytes());
    mac
}

impl fmt::Debug for DebugDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DebugDoor")
    }
}
