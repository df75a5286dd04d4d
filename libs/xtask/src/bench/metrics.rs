//! A server's own figures: `/metrics`, and what the kernel says of a process.

use anyhow::Context as _;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Every sample of a page of metrics, by name and labels.
pub(crate) type Samples = BTreeMap<String, f64>;

/// Asks once, on a connection of its own. Gives the answer as it came over the wire.
pub(crate) fn ask(address: &str, request: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 64 * 1024];
    loop {
        let read = stream.read(&mut chunk).with_context(|| format!("read from {address}"))?;
        answer.extend_from_slice(&chunk[..read]);
        let whole = super::load::answer_length(&answer).is_some_and(|length| answer.len() >= length);
        if read == 0 || whole {
            return Ok(answer);
        }
    }
}

pub(crate) fn read(address: &str) -> anyhow::Result<Samples> {
    let answer = ask(address, &format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"))?;
    // Some headers look like samples.
    let body = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |end| end + 4);
    Ok(parse(&String::from_utf8_lossy(&answer[body..])))
}

fn parse(text: &str) -> Samples {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let line = line.split(" # ").next()?;
            let (name, value) = line.trim().rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// What was counted between two pages, over every sample whose name and labels hold all of `parts`.
pub(crate) fn grown(before: &Samples, after: &Samples, parts: &[&str]) -> f64 {
    after
        .iter()
        .filter(|(name, _)| parts.iter().all(|part| name.contains(part)))
        .map(|(name, value)| value - before.get(name).copied().unwrap_or(0.0))
        .sum()
}

/// Histograms of seconds that grew between two pages: name, observations, seconds in all.
pub(crate) fn timed(before: &Samples, after: &Samples) -> Vec<(String, f64, f64)> {
    after
        .iter()
        .filter_map(|(name, value)| {
            let (base, labels) = name.split_once("_seconds_sum")?;
            let count = format!("{base}_seconds_count{labels}");
            let seconds = value - before.get(name).copied().unwrap_or(0.0);
            let observed = after.get(&count)? - before.get(&count).copied().unwrap_or(0.0);
            (observed > 0.0).then(|| (format!("{base}{labels}"), observed, seconds))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_apart_and_subtracted() {
        let before =
            parse("# HELP a_seconds x\na_seconds_sum{l=\"1\"} 1\na_seconds_count{l=\"1\"} 4\nhits{c=\"hit\"} 3\n");
        let after = parse(
            "a_seconds_sum{l=\"1\"} 1.5\na_seconds_count{l=\"1\"} 9\nhits{c=\"hit\"} 10 # {trace_id=\"x\"} 1\nhits{c=\"miss\"} 1\n",
        );
        assert_eq!(grown(&before, &after, &["hits", "\"hit\""]), 7.0);
        assert_eq!(grown(&before, &after, &["hits"]), 8.0);
        assert_eq!(timed(&before, &after), [("a{l=\"1\"}".to_owned(), 5.0, 0.5)]);
    }
}
