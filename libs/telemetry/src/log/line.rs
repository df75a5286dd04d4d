//! Rendering one line, and holding back floods.

use super::loggable::write_text;
use super::{LogEvent, LogLevel, Loggable, Number};
use crate::sink::Render;
use crate::{Label, ServiceInfo, UserHash};
use attune_domain::{RequestId, UnixMillis};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::Write as _;

/// What an event says. Keys are constants; each appears once.
#[derive(Default, Clone)]
pub struct Fields {
    metrics: String,
    context: String,
    user: Option<UserHash>,
    request: Option<RequestId>,
    error: Option<&'static str>,
}

impl Fields {
    pub fn metric(&mut self, key: &'static str, value: impl Number) -> &mut Self {
        put(&mut self.metrics, key, value);
        self
    }

    /// A closed list among the metrics, as the contract has it for `tier`.
    pub fn metric_label(&mut self, key: &'static str, value: impl Label) -> &mut Self {
        put(&mut self.metrics, key, super::loggable::One(value));
        self
    }

    pub fn context(&mut self, key: &'static str, value: impl Loggable) -> &mut Self {
        put(&mut self.context, key, value);
        self
    }

    pub fn label(&mut self, key: &'static str, value: impl Label) -> &mut Self {
        put(&mut self.context, key, super::loggable::One(value));
        self
    }

    pub fn user(&mut self, user: UserHash) -> &mut Self {
        self.user = Some(user);
        self
    }

    pub fn request(&mut self, request: RequestId) -> &mut Self {
        self.request = Some(request);
        self
    }

    /// What kind of failure, from a closed list; never an error's text.
    pub fn error(&mut self, kind: &'static str) -> &mut Self {
        self.error = Some(kind);
        self
    }
}

fn put(out: &mut String, key: &'static str, value: impl Loggable) {
    if !out.is_empty() {
        out.push(',');
    }
    write_text(key, out);
    out.push(':');
    value.write(out);
}

/// A finished line but for its weight.
pub(crate) struct Line {
    text: String,
    weight: f64,
}

impl Line {
    pub(crate) fn render<E: LogEvent + ?Sized>(
        event: &E,
        info: &ServiceInfo,
        boot_id: &str,
        sequence: u64,
        now: UnixMillis,
        place: Option<(RequestId, [u8; 8])>,
        suppressed: u64,
    ) -> Self {
        let mut fields = Fields::default();
        event.fields(&mut fields);
        if suppressed > 0 {
            fields.metric("suppressed", suppressed);
        }
        let level = event.level();
        let mut text = String::with_capacity(512);
        text.push_str("{\"timestamp\":\"");
        write_rfc3339(now, &mut text);
        // Writing to a String cannot fail.
        let _ = write!(text, "\",\"level\":\"{}\",\"severity_number\":{}", level.as_str(), level.number());
        for (key, value) in
            [("service", info.service), ("service_version", info.version), ("instance", &info.instance), ("boot_id", boot_id)]
        {
            let _ = write!(text, ",\"{key}\":");
            write_text(value, &mut text);
        }
        let _ = write!(text, ",\"seq\":{sequence}");
        if let Some((trace_id, span_id)) = place {
            let _ = write!(text, ",\"trace_id\":\"{trace_id}\",\"span_id\":\"");
            crate::context::push_hex(&span_id, &mut text);
            text.push('"');
        }
        if let Some(user) = &fields.user {
            text.push_str(",\"user_id_hash\":");
            write_text(user.as_str(), &mut text);
        }
        if let Some(request) = fields.request {
            let _ = write!(text, ",\"request_id\":\"{request}\"");
        }
        text.push_str(",\"event\":");
        write_text(event.name(), &mut text);
        let _ = write!(text, ",\"metrics\":{{{}}},\"context\":{{{}}}", fields.metrics, fields.context);
        if let Some(kind) = fields.error {
            text.push_str(",\"error\":{\"kind\":");
            write_text(kind, &mut text);
            text.push('}');
        }
        Self { text, weight: 1.0 }
    }

    /// How many lines like this one stands for.
    pub(crate) fn weighted(self, weight: f64) -> Self {
        Self { weight, ..self }
    }
}

impl Render for Line {
    fn cost(&self) -> usize {
        size_of::<Self>() + self.text.capacity()
    }

    fn render(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.as_bytes());
        out.extend_from_slice(format!(",\"sampled_weight\":{}}}\n", self.weight).as_bytes());
    }
}

/// `2026-01-29T10:30:00.123Z`; the civil date from days since the epoch (proleptic Gregorian).
fn write_rfc3339(ms: UnixMillis, out: &mut String) {
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        in_day / 3_600_000,
        in_day / 60_000 % 60,
        in_day / 1000 % 60,
        in_day % 1000
    );
}

/// A token bucket per event name for warnings and errors: bursts of 50, then 10 a second.
#[derive(Default)]
pub(crate) struct RateLimit(Mutex<HashMap<&'static str, Bucket>>);

struct Bucket {
    tokens: f64,
    at: UnixMillis,
    suppressed: u64,
}

const BURST: f64 = 50.0;
const PER_MS: f64 = 10.0 / 1000.0;
/// Names are constants of the code; should there be more, they share the last bucket.
const MAX_NAMES: usize = 1024;

impl RateLimit {
    /// How many were held back since the last admitted one; None when this one is held back too.
    pub(crate) fn admit(&self, name: &'static str, level: LogLevel, now: UnixMillis) -> Option<u64> {
        if level < LogLevel::Warn {
            return Some(0);
        }
        let mut buckets = self.0.lock();
        let name = if buckets.len() >= MAX_NAMES && !buckets.contains_key(name) { "" } else { name };
        let bucket = buckets.entry(name).or_insert(Bucket { tokens: BURST, at: now, suppressed: 0 });
        bucket.tokens = (bucket.tokens + (now - bucket.at).max(0) as f64 * PER_MS).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            bucket.suppressed += 1;
            return None;
        }
        bucket.tokens -= 1.0;
        Some(std::mem::take(&mut bucket.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc3339() {
        for (ms, want) in [
            (1_769_682_600_123, "2026-01-29T10:30:00.123Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            let mut out = String::new();
            write_rfc3339(ms, &mut out);
            assert_eq!(out, want);
        }
    }

    #[test]
    fn floods_are_held_back_and_counted() {
        let rate = RateLimit::default();
        let admitted = (0..200).filter(|_| rate.admit("store_failed", LogLevel::Error, 0).is_some()).count();
        assert_eq!(admitted, 50);
        assert_eq!(rate.admit("store_failed", LogLevel::Error, 1000), Some(150));
        assert_eq!(rate.admit("other", LogLevel::Warn, 0), Some(0));
        assert!((0..1000).all(|_| rate.admit("state", LogLevel::Info, 0) == Some(0)));
    }
}
