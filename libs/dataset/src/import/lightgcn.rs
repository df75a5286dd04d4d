//! LightGCN folders: `train.txt` and, where it is there, `test.txt`; a line is a user's number and then item numbers.
//!
//! A row is one pair of user and item; a line whose user cannot be read is one row. Each is a click.
//! There are no times, so they are made: a user's nth item is n minutes after the start of 2020, test after train.

use super::builder::{Builder, Place, Reject};
use super::report::Reason;
use super::rows::{Line, Lines};
use super::{Format, ImportError};
use crate::DatasetEvent;
use attune_domain::{Context, EventKind, ItemId, UnixMillis};
use std::collections::HashSet;
use std::path::Path;

/// 2020-01-01T00:00:00Z.
const START: UnixMillis = 1_577_836_800_000;
const STEP: UnixMillis = 60_000;
const SAMPLE: usize = 100;

pub(super) fn recognises(path: &Path) -> bool {
    check(path).is_ok()
}

pub(super) fn read(path: &Path, builder: &mut Builder<'_>) -> Result<(), ImportError> {
    let train = if path.is_dir() { path.join("train.txt") } else { path.to_path_buf() };
    let mut given = Vec::new();
    read_file(&train, builder, &mut given, Builder::add_event)?;
    let test = train.with_file_name("test.txt");
    if test.is_file() && test != train {
        read_file(&test, builder, &mut given, Builder::add_test_event)?;
    }
    Ok(())
}

/// `given`: events so far of each user.
fn read_file<'a>(
    path: &Path,
    builder: &mut Builder<'a>,
    given: &mut Vec<UnixMillis>,
    mut add: impl FnMut(&mut Builder<'a>, DatasetEvent, u64, Place),
) -> Result<(), ImportError> {
    check(path)?;
    let (mut lines, file) = builder.open(path)?;
    let mut pairs_of_user: HashSet<(u32, u32)> = HashSet::new();
    builder.each_row(&mut lines, file, |builder, line, place, rows| {
        let mut tokens = line.split_ascii_whitespace();
        let user = match tokens.next().map(|token| number(token, "user")) {
            Some(Ok(user)) => builder.user(user.as_str()),
            Some(Err(reject)) => return rows.push(Err(reject)),
            None => return rows.push(Err(Reject::row(Reason::EmptyLine))),
        };
        given.resize(given.len().max(user as usize + 1), 0);
        for token in tokens {
            rows.push(number(token, "item").and_then(|id| {
                let item = builder.item_or_bare(id);
                if !pairs_of_user.insert((user, item.0)) {
                    return Err(Reject::field(Reason::Duplicate, "item"));
                }
                given[user as usize] += 1;
                let occurred_at = START + given[user as usize] * STEP;
                let (kind, context) = (EventKind::Click, Context::DEFAULT);
                add(
                    builder,
                    DatasetEvent { user, item, kind, occurred_at, value: 1.0, slate: None, context },
                    0,
                    place,
                );
                Ok(())
            }));
        }
    })
}

/// A whole number, kept as text: it is a name.
fn number(token: &str, field: &'static str) -> Result<ItemId, Reject> {
    if token.bytes().all(|b| b.is_ascii_digit()) {
        ItemId::new(token).map_err(|_| Reject::field(Reason::BadId, field))
    } else {
        Err(Reject::field(Reason::BadNumber, field))
    }
}

fn check(path: &Path) -> Result<(), ImportError> {
    let mut lines = Lines::open(path)?;
    for _ in 0..SAMPLE {
        match lines.next()? {
            None => break,
            Some(Line::Text(text)) if text.split_ascii_whitespace().all(|t| number(t, "item").is_ok()) => {
                return Ok(());
            }
            Some(_) => {}
        }
    }
    let detail = format!("none of its first {SAMPLE} lines is a row of whole numbers");
    Err(ImportError::OtherFormat { path: path.into(), format: Format::LightGcn, detail })
}
