//! Lines of a file and fields of a line, in bounded memory.
//!
//! A row is one line: a line break inside quotes ends the row, so that a stray quote spoils one row and not the rest
//! of the file.

use super::{Format, ImportError, unreadable};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

/// Longest line that is read; the rest of a longer one is skipped without being kept.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// What stands on a line, without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Text(&'a str),
    Empty,
    NotUtf8,
    TooLong,
}

/// Reads a file line by line: LF or CRLF, with or without a byte order mark.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    buffer: Vec<u8>,
    number: u64,
    bytes: u64,
}

impl Lines {
    /// Opens a file that has at least one byte.
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let file = File::open(path).map_err(|e| unreadable(path, e))?;
        let size = file.metadata().map_err(|e| unreadable(path, e))?;
        if size.is_dir() {
            return Err(unreadable(path, io::Error::from(io::ErrorKind::IsADirectory)));
        }
        if size.is_file() && size.len() == 0 {
            return Err(ImportError::Empty(path.into()));
        }
        Ok(Self {
            path: path.into(),
            reader: BufReader::with_capacity(1 << 17, file),
            buffer: Vec::new(),
            number: 0,
            bytes: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The number, from 1, of the line read last.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, ImportError> {
        self.buffer.clear();
        let mut too_long = false;
        let mut any = false;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(unreadable(&self.path, e)),
            };
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|&b| b == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if self.buffer.len() + part.len() > MAX_LINE_BYTES {
                too_long = true;
            } else {
                self.buffer.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            self.bytes += used as u64;
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        if too_long {
            return Ok(Some(Line::TooLong));
        }
        let mut bytes = self.buffer.as_slice();
        if self.number == 1 {
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        Ok(Some(match std::str::from_utf8(bytes) {
            Ok(text) if text.trim().is_empty() => Line::Empty,
            Ok(text) => Line::Text(text),
            Err(_) => Line::NotUtf8,
        }))
    }
}

/// Fields of a line of comma-separated values, unquoted and trimmed.
#[derive(Default)]
pub(super) struct Fields {
    text: String,
    /// Where each field ends in `text`.
    ends: Vec<usize>,
}

impl Fields {
    /// `false` for a quote that is not closed, or text beside a quoted field.
    pub(super) fn split(&mut self, line: &str) -> bool {
        self.text.clear();
        self.ends.clear();
        let mut rest = line;
        loop {
            let trimmed = rest.trim_start();
            rest = match trimmed.strip_prefix('"') {
                None => {
                    let (field, after) =
                        rest.split_once(',').map_or((rest, None), |(field, after)| (field, Some(after)));
                    self.text.push_str(field.trim());
                    self.ends.push(self.text.len());
                    match after {
                        Some(after) => after,
                        None => return true,
                    }
                }
                Some(mut quoted) => {
                    loop {
                        let Some((part, after)) = quoted.split_once('"') else { return false };
                        self.text.push_str(part);
                        let Some(again) = after.strip_prefix('"') else {
                            quoted = after;
                            break;
                        };
                        self.text.push('"');
                        quoted = again;
                    }
                    self.ends.push(self.text.len());
                    let after = quoted.trim_start();
                    match after.strip_prefix(',') {
                        Some(after) => after,
                        None => return after.is_empty(),
                    }
                }
            };
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, index: usize) -> &str {
        let end = self.ends.get(index).copied().unwrap_or(self.text.len());
        let start = index.checked_sub(1).and_then(|i| self.ends.get(i)).copied().unwrap_or(0);
        self.text.get(start..end).unwrap_or("").trim()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// Column names of a file of comma-separated values, in lower case.
#[derive(Debug, Clone)]
pub(super) struct Header(pub(super) Vec<String>);

impl Header {
    /// Reads the first line, and refuses the file when a column of `required` is not there.
    pub(super) fn read(lines: &mut Lines, format: Format, required: &[&str]) -> Result<Self, ImportError> {
        let path = lines.path().to_path_buf();
        let refuse = |detail: String| ImportError::OtherFormat { path: path.clone(), format, detail };
        let mut fields = Fields::default();
        match lines.next()? {
            None => return Err(ImportError::Empty(path)),
            Some(Line::Text(text)) if fields.split(text) => {}
            Some(_) => return Err(refuse("its first line is not a header".into())),
        }
        let header = Self(fields.iter().map(str::to_lowercase).collect());
        match required.iter().find(|name| header.find(name).is_none()) {
            Some(missing) => Err(refuse(format!("its header has no column {missing}"))),
            None => Ok(header),
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| column == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_as_spreadsheets_write_them() {
        let cases: [(&str, Option<&[&str]>); 9] = [
            ("a,b,c", Some(&["a", "b", "c"])),
            ("a,,", Some(&["a", "", ""])),
            ("", Some(&[""])),
            (
                r#"11,"American President, The (1995)",Comedy"#,
                Some(&["11", "American President, The (1995)", "Comedy"]),
            ),
            (r#""say ""hi""",x"#, Some(&[r#"say "hi""#, "x"])),
            (r#" "a" , b "#, Some(&["a", "b"])),
            (r#"a"b,c"#, Some(&[r#"a"b"#, "c"])),
            (r#""open,b"#, None),
            (r#""a"b,c"#, None),
        ];
        let mut fields = Fields::default();
        for (line, expected) in cases {
            let got = fields.split(line).then(|| fields.iter().collect::<Vec<_>>());
            assert_eq!(got.as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn lines_bear_marks_breaks_and_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let mut bytes = b"\xef\xbb\xbfone\r\n\r\nt\xffo\n".to_vec();
        bytes.resize(bytes.len() + MAX_LINE_BYTES + 1, b'x');
        bytes.extend_from_slice(b"\n");
        bytes.resize(bytes.len() + MAX_LINE_BYTES, b'y');
        bytes.extend_from_slice(b"\nlast");
        std::fs::write(&path, &bytes).unwrap();
        let mut lines = Lines::open(&path).unwrap();
        assert_eq!(lines.next().unwrap(), Some(Line::Text("one")));
        assert_eq!(lines.next().unwrap(), Some(Line::Empty));
        assert_eq!(lines.next().unwrap(), Some(Line::NotUtf8));
        assert_eq!(lines.next().unwrap(), Some(Line::TooLong));
        assert!(matches!(lines.next().unwrap(), Some(Line::Text(t)) if t.len() == MAX_LINE_BYTES));
        assert_eq!(lines.next().unwrap(), Some(Line::Text("last")));
        assert_eq!((lines.number(), lines.bytes()), (6, bytes.len() as u64));
        assert_eq!(lines.next().unwrap(), None);
    }
}
