//! Writing JSON values into a buffer that is used again and again: no allocation once it has grown.

use attune_domain::UnixMillis;

pub(super) fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// JSON has no NaN and no infinity.
pub(super) fn float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// `thousandths` / 1000, without trailing zeros: 45250 is `45.25`.
pub(super) fn thousandths(value: u64, out: &mut Vec<u8>) {
    integer(value / 1000, out);
    let rest = value % 1000;
    if rest > 0 {
        let digits = [b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8];
        let end = digits.iter().rposition(|digit| *digit != b'0').unwrap_or(0);
        out.extend_from_slice(&digits[..=end]);
    }
}

/// A string, with everything escaped that must be.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 | 0x7f => {
                out.extend_from_slice(b"\\u00");
                hex(&[byte], out);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// `2026-01-29T10:30:00.123Z`; the civil date from days since the epoch (proleptic Gregorian).
pub(super) fn rfc3339(ms: UnixMillis, out: &mut Vec<u8>) {
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
    for (value, width, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (in_day / 3_600_000, 2, b':'),
        (in_day / 60_000 % 60, 2, b':'),
        (in_day / 1000 % 60, 2, b'.'),
        (in_day % 1000, 3, b'Z'),
    ] {
        let mut digits = [b'0'; 4];
        let mut rest = value;
        for digit in digits[..width].iter_mut().rev() {
            *digit += (rest % 10).unsigned_abs() as u8;
            rest /= 10;
        }
        out.extend_from_slice(&digits[..width]);
        out.push(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn timestamps_are_rfc3339() {
        for (ms, want) in [
            (1_769_682_600_123, "2026-01-29T10:30:00.123Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(written(|out| rfc3339(ms, out)), want);
        }
    }

    #[test]
    fn values_read_back_as_they_were() {
        for value in [0, 1, 10, 250, 999, 1000, 45_250, 45_001, u64::MAX] {
            let text = written(|out| thousandths(value, out));
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!((read.as_f64().unwrap() - value as f64 / 1000.0).abs() <= value as f64 * 1e-15, "{text}");
            assert!(!text.contains('.') || !text.ends_with('0'), "{text}");
        }
        for value in [0.0, -1.5, 1e300, 5e-324, f64::NAN, f64::NEG_INFINITY] {
            let read: serde_json::Value = serde_json::from_str(&written(|out| float(value, out))).unwrap();
            assert_eq!(read.as_f64(), value.is_finite().then_some(value));
        }
        for value in ["plain", "\"quoted\" \\ and \u{1} \u{7f} \n", "Grüße \u{1f600}"] {
            let read: serde_json::Value = serde_json::from_str(&written(|out| text(value, out))).unwrap();
            assert_eq!(read, value);
        }
    }
}
