//! The same expression over shorter time: every range, offset and subquery divided by one number, nothing else.

use std::time::Duration;

/// Less than this holds too few looks to tell a rate.
const LEAST: Duration = Duration::from_secs(8);

/// `divisor` 1 gives the expression as it is.
pub(crate) fn shorten(expression: &str, divisor: u32) -> String {
    let mut out = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some(at) = rest.find(['[', '"']).into_iter().chain(rest.find("offset ")).min() {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        let taken = match found.as_bytes().first() {
            Some(b'"') => {
                let end = string_end(found);
                out.push_str(&found[..end]);
                end
            }
            Some(b'[') => {
                let end = found.find(']').unwrap_or(found.len());
                let parts: Vec<String> = found[1..end].split(':').map(|part| shorter(part, divisor)).collect();
                out.push('[');
                out.push_str(&parts.join(":"));
                end
            }
            _ => {
                let time = found["offset ".len()..].trim_start();
                let begin = found.len() - time.len();
                let length = time.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(time.len());
                out.push_str(&found[..begin]);
                out.push_str(&shorter(&time[..length], divisor));
                begin + length
            }
        };
        rest = &found[taken..];
    }
    out.push_str(rest);
    out
}

/// Past the closing quote.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn shorter(text: &str, divisor: u32) -> String {
    match parse(text.trim()) {
        Some(time) if divisor > 1 => format!("{}s", (time / divisor).max(LEAST.min(time)).as_secs().max(1)),
        _ => text.to_owned(),
    }
}

/// Of `1h30m`.
fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut all = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = rest.split_at(digits);
        let length = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let millis = match &unit[..length] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        all += Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
        rest = &unit[length..];
    }
    (!text.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_are_divided() {
        for (whole, short) in [
            ("rate(a_total[5m]) > 0.2", "rate(a_total[30s]) > 0.2"),
            ("a[1h30m] + b[2m] offset 15m > 5", "a[540s] + b[12s] offset 90s > 5"),
            ("max_over_time(a[1d:5m])", "max_over_time(a[8640s:30s])"),
            ("a{path=\"[5m] offset 5m\\\"[5m]\"}[10m]", "a{path=\"[5m] offset 5m\\\"[5m]\"}[60s]"),
            ("a[20s] unless b offset 5s", "a[8s] unless b offset 5s"),
            ("up == 0", "up == 0"),
        ] {
            assert_eq!(shorten(whole, 10), short);
            assert_eq!(shorten(whole, 1), whole);
        }
    }
}
