//! One JSON object per line: `events.jsonl`, and beside it, where they are there, `items` and `users` files.

use super::builder::{Builder, Place, Reject};
use super::report::Reason;
use super::rows::{Line, Lines};
use super::table::{self, Row, Slates};
use super::{Format, ImportError, csv};
use serde_json::{Map, Value};
use std::path::Path;

/// Lines among which at least one must be an object, or else the file is taken for something else.
const SAMPLE: usize = 100;

pub(super) fn recognises(path: &Path) -> bool {
    check(path, Format::Jsonl).is_ok()
}

pub(super) fn read(path: &Path, builder: &mut Builder<'_>) -> Result<(), ImportError> {
    let events = if path.is_dir() { path.join("events.jsonl") } else { path.to_path_buf() };
    check(&events, Format::Jsonl)?;
    let closed = csv::read_beside(&events, builder)?;
    let mut slates = Slates::default();
    read_file(&events, builder, |builder, row, place| table::take_event(row, builder, &mut slates, closed, place))
}

pub(super) fn read_file(
    path: &Path,
    builder: &mut Builder<'_>,
    mut take: impl FnMut(&mut Builder<'_>, &Row<'_>, Place) -> Result<(), Reject>,
) -> Result<(), ImportError> {
    check(path, builder.format())?;
    let (mut lines, file) = builder.open(path)?;
    builder.each_line(&mut lines, file, |builder, line, place| {
        let map = object(line).ok_or(Reject::row(Reason::Malformed))?;
        take(builder, &Row::Json(&map), place)
    })
}

fn object(line: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(line).ok()
}

fn check(path: &Path, format: Format) -> Result<(), ImportError> {
    let mut lines = Lines::open(path)?;
    for _ in 0..SAMPLE {
        match lines.next()? {
            None => break,
            Some(Line::Text(text)) if object(text).is_some() => return Ok(()),
            Some(_) => {}
        }
    }
    let detail = format!("none of its first {SAMPLE} lines is a JSON object");
    Err(ImportError::OtherFormat { path: path.into(), format, detail })
}
