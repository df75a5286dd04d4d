//! Comma-separated values with a header: `events.csv`, and beside it, where they are there, `items` and `users` files.

use super::builder::{Builder, Reject};
use super::report::Reason;
use super::rows::{Fields, Header, Lines};
use super::table::{self, EVENT_FIELDS, ITEM_FIELDS, Row, Slates};
use super::{Format, ImportError, jsonl};
use std::path::{Path, PathBuf};

const REQUIRED: [&str; 4] = ["user_id", "item_id", "type", "occurred_at"];

pub(super) fn recognises(path: &Path) -> bool {
    Lines::open(path).is_ok_and(|mut lines| Header::read(&mut lines, Format::Csv, &REQUIRED).is_ok())
}

pub(super) fn read(path: &Path, builder: &mut Builder<'_>) -> Result<(), ImportError> {
    let events = if path.is_dir() { path.join("events.csv") } else { path.to_path_buf() };
    // A wrong events file is the error to report, whatever stands beside it.
    Header::read(&mut Lines::open(&events)?, Format::Csv, &REQUIRED)?;
    let closed = read_beside(&events, builder)?;
    let mut slates = Slates::default();
    read_file(&events, builder, &REQUIRED, Some(&EVENT_FIELDS), |builder, row, place| {
        table::take_event(row, builder, &mut slates, closed, place)
    })
}

/// Reads the item and user files in the folder of an events file. Returns whether there was a catalogue.
pub(super) fn read_beside(events: &Path, builder: &mut Builder<'_>) -> Result<bool, ImportError> {
    let format = builder.format();
    let beside = |name: &str| -> Option<PathBuf> {
        let path = events.with_file_name(name);
        (path.is_file() && path != events).then_some(path)
    };
    // The events file's own notation first.
    let pair = |table: &str| {
        let (csv, jsonl) = (beside(&format!("{table}.csv")), beside(&format!("{table}.jsonl")));
        if format == Format::Jsonl {
            (csv.filter(|_| jsonl.is_none()), jsonl)
        } else {
            (csv.clone(), jsonl.filter(|_| csv.is_none()))
        }
    };
    let (item_table, item_lines) = pair("items");
    let closed = item_table.is_some() || item_lines.is_some();
    if let Some(path) = item_table {
        read_file(&path, builder, &["id"], Some(&ITEM_FIELDS), |builder, row, _| table::take_item(row, builder))?;
    }
    if let Some(path) = item_lines {
        jsonl::read_file(&path, builder, |builder, row, _| table::take_item(row, builder))?;
    }
    let (user_table, user_lines) = pair("users");
    if let Some(path) = user_table {
        read_file(&path, builder, &["user_id"], None, |builder, row, _| table::take_user(row, builder))?;
    }
    if let Some(path) = user_lines {
        jsonl::read_file(&path, builder, |builder, row, _| table::take_user(row, builder))?;
    }
    Ok(closed)
}

/// `known`: the columns that the format gives a meaning; without a list all have one.
fn read_file(
    path: &Path,
    builder: &mut Builder<'_>,
    required: &[&str],
    known: Option<&[&str]>,
    mut take: impl FnMut(&mut Builder<'_>, &Row<'_>, super::builder::Place) -> Result<(), Reject>,
) -> Result<(), ImportError> {
    let (mut lines, file) = builder.open(path)?;
    let header = Header::read(&mut lines, builder.format(), required)?;
    if let Some(known) = known {
        let ignored = header.0.iter().filter(|column| !known.contains(&column.as_str())).cloned().collect();
        builder.report.files[file].ignored_columns = ignored;
    }
    let mut fields = Fields::default();
    builder.each_line(&mut lines, file, |builder, line, place| {
        if !fields.split(line) || fields.len() > header.0.len() {
            return Err(Reject::row(Reason::Malformed));
        }
        take(builder, &Row::Csv { columns: &header.0, fields: &fields }, place)
    })
}
