//! Values people write by hand: durations, sizes and secrets.

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration written as `250ms`, `2s`, `1.5m`, `1h` or `7d`. A bare number is refused: it has no unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    pub const fn secs(s: u64) -> Self {
        Self(Duration::from_secs(s))
    }

    pub const fn get(self) -> Duration {
        self.0
    }
}

/// Nanoseconds in each unit, longest spelling first so that `ms` is not read as `m`.
const DURATION_UNITS: [(&str, f64); 7] =
    [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9), ("d", 86400e9)];

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WANT: &str = "a duration such as \"250ms\", \"2s\", \"5m\", \"1h\" or \"7d\"";
        let (number, unit) = split_number(text).ok_or_else(|| format!("want {WANT}"))?;
        let (_, nanos) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| format!("want {WANT}"))?;
        let nanos = number * nanos;
        // A hundred years: far beyond any deadline, well inside what Instant arithmetic takes.
        if nanos > 100.0 * 365.0 * 86400e9 {
            return Err("is longer than a hundred years".into());
        }
        Ok(Self(Duration::from_nanos(nanos.round() as u64)))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let whole = DURATION_UNITS.iter().rev().find(|(_, unit)| nanos.is_multiple_of(*unit as u128));
        match whole {
            Some((name, unit)) => write!(f, "{}{name}", nanos / *unit as u128),
            None => write!(f, "{nanos}ns"),
        }
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number of bytes written as `512B`, `64KiB`, `64MiB` or `2GiB` (or with `kB`, `MB`, `GB` for powers of ten).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    pub const fn get(self) -> u64 {
        self.0
    }

    /// For sizes of things in memory; saturates where `usize` is smaller.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("MB", 1000 * 1000),
    ("GB", 1000 * 1000 * 1000),
    ("TB", 1000 * 1000 * 1000 * 1000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WANT: &str = "a size such as \"512B\", \"64KiB\", \"64MiB\" or \"2GiB\"";
        let (number, unit) = split_number(text).ok_or_else(|| format!("want {WANT}"))?;
        let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| format!("want {WANT}"))?;
        let bytes = number * *bytes as f64;
        if bytes >= (1u64 << 53) as f64 {
            return Err("is larger than eight PiB".into());
        }
        Ok(Self(bytes.round() as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match binary.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `12.5ms` is (12.5, "ms"). Only plain decimals: no sign, no exponent, no blank inside.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..end].parse().ok()?;
    number.is_finite().then_some((number, text[end..].trim_start()))
}

macro_rules! as_text {
    ($name:ident, $want:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($want)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}
as_text!(HumanDuration, "a duration such as \"250ms\", \"2s\", \"5m\" or \"1h\"");
as_text!(ByteSize, "a size such as \"512B\", \"64KiB\" or \"64MiB\"");

/// Bytes that never print. Written as a plain string, or as `{ file = "path" }`, whose last line break is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves, for the code that keys or authenticates with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret, or { file = \"path\" }")
            }

            // An invalid secret is not quoted in the message, hence `custom` and not `invalid_value`.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                if text.is_empty() {
                    return Err(E::custom("a secret must not be empty"));
                }
                Ok(Secret(text.as_bytes().to_vec()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
                let mut path: Option<std::path::PathBuf> = None;
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "file" => path = Some(map.next_value()?),
                        _ => return Err(de::Error::unknown_field(&key, &["file"])),
                    }
                }
                let path = path.ok_or_else(|| de::Error::missing_field("file"))?;
                let mut bytes = std::fs::read(&path)
                    .map_err(|e| de::Error::custom(format_args!("cannot read secret file {}: {e}", path.display())))?;
                if bytes.last() == Some(&b'\n') {
                    bytes.pop();
                }
                if bytes.is_empty() {
                    return Err(de::Error::custom(format_args!("secret file {} is empty", path.display())));
                }
                Ok(Secret(bytes))
            }
        }
        deserializer.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_back_what_they_print() {
        for text in ["250ms", "2s", "90s", "1h", "7d", "15us", "0s"] {
            let value: HumanDuration = text.parse().unwrap();
            assert_eq!(value.to_string().parse::<HumanDuration>().unwrap(), value, "{text}");
        }
        assert_eq!("1.5m".parse::<HumanDuration>().unwrap().get(), Duration::from_secs(90));
        for text in ["512B", "64KiB", "64MiB", "2GiB", "10kB"] {
            let value: ByteSize = text.parse().unwrap();
            assert_eq!(value.to_string().parse::<ByteSize>().unwrap(), value, "{text}");
        }
        assert_eq!("1.5KiB".parse::<ByteSize>().unwrap(), ByteSize(1536));
    }

    #[test]
    fn numbers_without_unit_and_nonsense_are_refused() {
        for text in ["", "5", "ms", "-1s", "1e3s", "1 year", "1.2.3s", "999999999d"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
        for text in ["", "64", "64mb", "-1B", "1e9TiB", "99999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
