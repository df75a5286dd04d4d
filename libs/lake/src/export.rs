//! From a platform's logs to a lake.
//!
//! Always holds: a record is in the lake once, however often and with whatever range an export is run; rows of visitors
//! whose erasure is on the log are not, whoever exported them before; a lake is what it was until all of an export is
//! durable.

mod decided;
mod logged;
#[cfg(test)]
mod tests;

use crate::erasure::{self, Fences};
use crate::error::LakeError;
use crate::lake::Lake;
use crate::manifest::{Part, hour_name};
use crate::schema::Table;
use crate::source::{LakeSource, bounds};
use crate::training::Outcome;
use attune_domain::UnixMillis;
use attune_storage::{Bounds, Topic, partition_of};
use serde::Serialize;
use std::time::Duration;

/// A decision is in its log by then, if ever.
const DECISION_GRACE: i64 = 600_000;

#[derive(Debug, Clone)]
pub struct ExportOptions {
    pub tables: Vec<Table>,
    /// First hour: the start of one.
    pub since: Option<UnixMillis>,
    /// Hour after the last: the start of one.
    pub until: Option<UnixMillis>,
    pub now: UnixMillis,
    /// How long after a decision an outcome counts for training.
    pub horizon: Duration,
}

impl ExportOptions {
    fn holds(&self, hour: UnixMillis) -> bool {
        self.since.is_none_or(|since| hour >= since) && self.until.is_none_or(|until| hour < until)
    }
}

/// Told how far an export is.
pub trait ExportProgress: Send + Sync {
    fn table(&self, table: Table, records: u64);
    fn at(&self, records: u64);
    fn done(&self);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoExportProgress;

impl ExportProgress for NoExportProgress {
    fn table(&self, _: Table, _: u64) {}
    fn at(&self, _: u64) {}
    fn done(&self) {}
}

/// What an export did to a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableReport {
    pub table: &'static str,
    /// Written by this export.
    pub rows: u64,
    pub bytes: u64,
    /// Hours that got or changed rows.
    pub hours: Vec<String>,
    /// Emptied by an erasure, or no record of their topic; the latter are on the dead topic.
    pub unreadable: u64,
    /// Of visitors that were erased, never written.
    pub erased: u64,
    /// Of visitors erased since they were exported: files written anew, and rows that went.
    pub rewritten_parts: u64,
    pub removed_rows: u64,
    /// In the lake now.
    pub total_rows: u64,
    pub total_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<Outcome>,
}

/// Exports each table. The lake is changed when it returns, or not at all.
pub async fn export(
    lake: &mut Lake,
    source: &dyn LakeSource,
    options: &ExportOptions,
    progress: &dyn ExportProgress,
) -> Result<Vec<TableReport>, LakeError> {
    // In this order: what an erasure emptied before the later look is known by the fence of the later one.
    let items = bounds(source.log(), Topic::ItemUpdates).await?;
    let users = bounds(source.log(), Topic::UserUpdates).await?;
    let events = bounds(source.log(), Topic::UserEvents).await?;
    let before = lake.manifest.clone();
    let mut reports = Vec::new();
    for &table in &options.tables {
        let fences = fences(lake, source, table, &events).await?;
        let mut report = TableReport { table: table.as_str(), ..TableReport::default() };
        let removed = erasure::rewrite(lake, table, &fences)?;
        (report.rewritten_parts, report.removed_rows) = (removed.parts, removed.rows);
        match table {
            Table::Items => {
                logged::export(lake, source, options, table, &items, &fences, &mut report, progress).await?
            }
            Table::Users => {
                logged::export(lake, source, options, table, &users, &fences, &mut report, progress).await?
            }
            Table::Events => {
                logged::export(lake, source, options, table, &events, &fences, &mut report, progress).await?;
            }
            Table::Impressions | Table::Training => {
                decided::export(lake, source, options, table, &mut report, progress).await?;
            }
        }
        let entry = lake.manifest.entry(table);
        let whole = !matches!(table, Table::Events | Table::Users)
            || entry.resume
                == ends(&match table {
                    Table::Users => users.clone(),
                    _ => events.clone(),
                });
        entry.erasures = if whole && table.is_personal() { ends(&events) } else { Default::default() };
        entry.settle();
        (report.total_rows, report.total_bytes) = (entry.rows, entry.bytes);
        progress.done();
        reports.push(report);
    }
    if lake.manifest != before || !Lake::exists(lake.root()) {
        lake.commit()?;
    }
    Ok(reports)
}

async fn fences(
    lake: &mut Lake,
    source: &dyn LakeSource,
    table: Table,
    events: &[Bounds],
) -> Result<Fences, LakeError> {
    if !table.is_personal() {
        return Ok(Fences::default());
    }
    let marks = lake.manifest.entry(table).erasures.clone();
    erasure::read(source.log(), events, &marks).await
}

fn ends(bounds: &[Bounds]) -> crate::manifest::Offsets {
    bounds.iter().map(|bounds| (partition_of(bounds.end), bounds.end)).collect()
}

/// Puts finished files into the manifest, after those that are there or instead of them.
fn place(lake: &mut Lake, table: Table, parts: Vec<(UnixMillis, Part)>, instead: bool, report: &mut TableReport) {
    let entry = lake.manifest.entry(table);
    let mut fresh: Vec<String> = Vec::new();
    for (hour, part) in parts {
        let name = hour_name(hour);
        let hour = entry.hours.entry(name.clone()).or_default();
        if !fresh.contains(&name) {
            if instead {
                hour.parts.clear();
            }
            fresh.push(name);
        }
        report.rows += part.rows;
        report.bytes += part.bytes;
        // The same rows make the same file.
        if !hour.parts.iter().any(|other| other.file == part.file) {
            hour.parts.push(part);
        }
    }
    fresh.sort();
    report.hours = fresh;
}
