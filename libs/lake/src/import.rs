//! From a lake to what another platform can be filled with.
//!
//! Always holds: every row is checked as if nobody had; a row that cannot be kept is counted under its reason, and the
//! first of each reason are named with their file, row and column.

use crate::error::LakeError;
use crate::lake::Lake;
use crate::row::{BadField, Row};
use crate::schema::Table;
use crate::tables::events::EventRow;
use crate::tables::items::ItemRow;
use crate::tables::users::UserRow;
use attune_domain::{Catalogue, EventKey, ItemIx, Uid};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// Rows named for each reason.
const NAMED: usize = 3;

/// A row that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offence {
    pub file: String,
    /// Counted from 0.
    pub row: u64,
    pub column: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableCounts {
    pub rows_read: u64,
    pub kept: u64,
    pub rejected: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    pub tables: BTreeMap<&'static str, TableCounts>,
    pub rejected: BTreeMap<&'static str, u64>,
    pub first_offending: BTreeMap<&'static str, Vec<Offence>>,
    pub items: usize,
    pub users: usize,
    pub events: usize,
}

impl ImportReport {
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    pub fn rows_read(&self) -> u64 {
        self.tables.values().map(|table| table.rows_read).sum()
    }

    fn kept(&mut self, table: Table) {
        let counts = self.tables.entry(table.as_str()).or_default();
        counts.rows_read += 1;
        counts.kept += 1;
    }

    fn reject(&mut self, table: Table, file: &str, row: u64, BadField { column, reason }: BadField) {
        let counts = self.tables.entry(table.as_str()).or_default();
        counts.rows_read += 1;
        counts.rejected += 1;
        *self.rejected.entry(reason).or_default() += 1;
        let named = self.first_offending.entry(reason).or_default();
        if named.len() < NAMED {
            named.push(Offence { file: file.to_owned(), row, column });
        }
    }
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {:>12} {:>12} {:>12}", "table", "rows read", "kept", "rejected")?;
        for (table, counts) in &self.tables {
            writeln!(f, "{table:<12} {:>12} {:>12} {:>12}", counts.rows_read, counts.kept, counts.rejected)?;
        }
        for (reason, count) in &self.rejected {
            write!(f, "rejected, {reason}: {count}  first at")?;
            for Offence { file, row, column } in self.first_offending.get(reason).into_iter().flatten() {
                write!(f, " {file}:{row} ({column})")?;
            }
            writeln!(f)?;
        }
        write!(f, "{} items, {} users, {} events", self.items, self.users, self.events)
    }
}

/// What a lake holds of items, visitors and what they did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    pub key_fingerprint: String,
    /// Versions in the order of the log, which gives items their numbers.
    pub items: Vec<ItemRow>,
    pub catalogue: Vec<attune_domain::Item>,
    pub users: Vec<UserRow>,
    /// In the order of acceptance.
    pub events: Vec<EventRow>,
}

/// Reads the tables `items`, `users` and `events`. `progress` hears of every part that was read.
pub fn import(lake: &Lake, mut progress: impl FnMut(u64)) -> Result<(Contents, ImportReport), LakeError> {
    let mut report = ImportReport::default();
    let mut contents = Contents { key_fingerprint: lake.manifest().key_fingerprint.clone(), ..Contents::default() };
    let mut parts = 0;
    let mut done = || {
        parts += 1;
        progress(parts);
    };

    let mut items = read(lake, Table::Items, ItemRow::from_row, &mut report, &mut done)?;
    items.sort_by_key(|(_, row)| row.offset);
    let mut catalogue = Catalogue::default();
    for (place, row) in items {
        match take_item(&mut catalogue, &row) {
            Ok(()) => {
                report.kept(Table::Items);
                contents.items.push(row);
            }
            Err(bad) => report.reject(Table::Items, &place.file, place.row, bad),
        }
    }
    contents.catalogue = catalogue.items().to_vec();

    let mut users = read(lake, Table::Users, UserRow::from_row, &mut report, &mut done)?;
    users.sort_by_key(|(_, row)| row.offset);
    contents.users = users
        .into_iter()
        .map(|(_, row)| {
            report.kept(Table::Users);
            row
        })
        .collect();

    let mut events = read(lake, Table::Events, EventRow::from_row, &mut report, &mut done)?;
    events.sort_by_key(|(_, row)| (row.event.accepted_at, row.offset));
    let mut known: HashSet<(Uid, EventKey)> = HashSet::with_capacity(events.len());
    for (place, row) in events {
        match check_event(&catalogue, &row, &mut known) {
            Ok(()) => {
                report.kept(Table::Events);
                contents.events.push(row);
            }
            Err(bad) => report.reject(Table::Events, &place.file, place.row, bad),
        }
    }
    report.items = contents.catalogue.len();
    report.events = contents.events.len();
    let users: HashSet<Uid> =
        contents.events.iter().map(|row| row.event.uid).chain(contents.users.iter().map(|row| row.uid)).collect();
    report.users = users.len();
    Ok((contents, report))
}

struct Place {
    file: String,
    row: u64,
}

/// Rows that are rows of their table; the others are in the report.
fn read<T>(
    lake: &Lake,
    table: Table,
    convert: impl Fn(Row) -> Result<T, BadField>,
    report: &mut ImportReport,
    done: &mut impl FnMut(),
) -> Result<Vec<(Place, T)>, LakeError> {
    let mut rows = Vec::new();
    for part in lake.parts(table) {
        lake.verify(part)?;
        let mut at = 0;
        lake.read(table, part, |row| {
            match convert(row) {
                Ok(row) => rows.push((Place { file: part.file.clone(), row: at }, row)),
                Err(bad) => report.reject(table, &part.file, at, bad),
            }
            at += 1;
            Ok(())
        })?;
        done();
    }
    Ok(rows)
}

fn take_item(catalogue: &mut Catalogue, row: &ItemRow) -> Result<(), BadField> {
    let ix = row.update.ix;
    let numbered = catalogue.find(row.update.item.id.as_str()).unwrap_or(ItemIx(catalogue.len() as u32));
    if ix != numbered {
        return Err(BadField { column: "item", reason: "is not the item's number" });
    }
    let offset = catalogue.next_offset();
    catalogue.apply(offset, row.update.clone()).map_err(|_| BadField { column: "item", reason: "leaves a gap" })
}

fn check_event(catalogue: &Catalogue, row: &EventRow, known: &mut HashSet<(Uid, EventKey)>) -> Result<(), BadField> {
    let event = &row.event;
    if event.item.is_known() {
        match catalogue.get(event.item) {
            None => return Err(BadField { column: "item", reason: "is not in the table of items" }),
            Some(item) if item.id != event.item_id => {
                return Err(BadField { column: "item_id", reason: "is another item's" });
            }
            Some(_) => {}
        }
    }
    if !known.insert((event.uid, event.key())) {
        return Err(BadField { column: "event_id", reason: "was there before" });
    }
    Ok(())
}
