//! Hours on the command line.

use time::format_description::well_known::Rfc3339;

const HOUR: i64 = 3_600_000;

/// A date, an hour or a moment that begins one, in Unix milliseconds.
pub(super) fn hour(text: &str) -> Result<i64, String> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        13 => format!("{text}:00:00Z"),
        _ => text.to_owned(),
    };
    let at = time::OffsetDateTime::parse(&whole, &Rfc3339)
        .map_err(|_| "is neither a date, an hour nor a moment, as in 2026-01-29T10:00:00Z".to_owned())?;
    let at =
        i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).map_err(|_| "is out of range".to_owned())?;
    if at.rem_euclid(HOUR) != 0 {
        return Err("must begin a whole hour: the lake is in hours".to_owned());
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read_and_what_is_none_is_told() {
        for text in ["2026-01-29T10", "2026-01-29T10:00:00Z", "2026-01-29T12:00:00+02:00"] {
            assert_eq!(hour(text), Ok(1_769_680_800_000), "{text}");
        }
        assert_eq!(hour("2026-01-29"), Ok(1_769_644_800_000));
        for (text, wanted) in [("10:30", "neither"), ("2026-13-01", "neither"), ("2026-01-29T10:30:00Z", "whole hour")]
        {
            assert!(hour(text).is_err_and(|error| error.contains(wanted)), "{text}");
        }
    }
}
