//! Server-sent events from bytes that may be split anywhere, even inside a character or a line end.

/// A longer line or event is no answer of ours.
pub const MAX_EVENT_BYTES: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    #[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
    TooLong,
    #[error("an event is not UTF-8")]
    NotUtf8,
}

/// Collects the `data` of events; other fields and comments are skipped.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    past_first_line: bool,
}

impl SseParser {
    /// Takes the next bytes and appends the data of each event they complete.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<String>) -> Result<(), SseError> {
        for byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ if self.line.len() >= MAX_EVENT_BYTES => return Err(SseError::TooLong),
                byte => self.line.push(*byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<String>, SseError> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.past_first_line, true) && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(..3);
        }
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return match std::mem::take(&mut self.has_data) {
                true => String::from_utf8(data).map(Some).map_err(|_| SseError::NotUtf8),
                false => Ok(None),
            };
        }
        let (field, value) = match line.iter().position(|b| *b == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &[][..]),
        };
        if field == b"data" {
            if self.data.len() + value.len() > MAX_EVENT_BYTES {
                return Err(SseError::TooLong);
            }
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Result<Vec<String>, SseError> {
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        chunks.iter().try_for_each(|chunk| parser.push(chunk, &mut events)).map(|()| events)
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        let check = |bytes: &[u8], want: &[&str]| assert_eq!(parse(&[bytes]).unwrap(), want);
        check(b"data: a\n\ndata:b\r\n\r\ndata:  c\r\rdata\n\n", &["a", "b", " c", ""]);
        check(b"\xef\xbb\xbfdata: first\n\n", &["first"]);
        check(b": ping\n\nevent: x\nid: 7\nretry: 3\n\n", &[]);
        check(b"event: x\ndata: a\n: comment\ndata: b\n\n", &["a\nb"]);
        check(b"dataset: no\n\ndata: unfinished\n", &[]);
        check("data: zwölf 🎬\n\n".as_bytes(), &["zwölf 🎬"]);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        assert_eq!(parse(&[b"data: \xff\n\n"]), Err(SseError::NotUtf8));
        assert_eq!(parse(&[&vec![b'x'; MAX_EVENT_BYTES + 1]]), Err(SseError::TooLong));
        let line = [b"data: ".as_slice(), &vec![b'x'; 1000], b"\n"].concat();
        assert_eq!(parse(&[&line.repeat(300)]), Err(SseError::TooLong));
    }

    proptest! {
        #[test]
        fn the_split_does_not_matter(
            text in prop::collection::vec(prop::sample::select(&["data: ä🎬", "data:", "\n", "\r\n", "\r", ": c", "id: 1", "x"][..]), 0..30),
            cuts in prop::collection::vec(1usize..7, 1..40),
        ) {
            let bytes = text.concat().into_bytes();
            let whole = parse(&[&bytes]).unwrap();
            let (mut rest, mut pieces) = (&bytes[..], Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(parse(&pieces).unwrap(), whole);
        }
    }
}
