//! Visitors who were erased: their rows go from the lake.

use crate::error::LakeError;
use crate::file::{PartReader, PartWriter};
use crate::lake::Lake;
use crate::manifest::{Offsets, Part};
use crate::row::{Row, Value};
use crate::schema::Table;
use crate::source::{UserRecord, scan, user_record};
use attune_domain::{Uid, UnixMillis};
use attune_storage::{Bounds, EventLog, Topic, partition_of};
use std::collections::HashMap;

/// Until when a visitor's rows are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fence {
    /// Of the erasure's record on `user-events`.
    pub(crate) offset: u64,
    pub(crate) at: UnixMillis,
}

#[derive(Debug, Default)]
pub(crate) struct Fences(HashMap<Uid, Fence>);

impl Fences {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, uid: Uid, fence: Fence) {
        let kept = self.0.entry(uid).or_insert(fence);
        *kept = Fence { offset: kept.offset.max(fence.offset), at: kept.at.max(fence.at) };
    }

    pub(crate) fn voids_event(&self, uid: &Uid, offset: u64) -> bool {
        self.0.get(uid).is_some_and(|fence| offset < fence.offset)
    }

    pub(crate) fn voids_at(&self, uid: &Uid, at: UnixMillis) -> bool {
        self.0.get(uid).is_some_and(|fence| at <= fence.at)
    }

    fn voids(&self, table: Table, row: &Row) -> bool {
        let int = |at: usize| if let Some(Value::Int(n)) = row.get(at) { *n } else { i64::MIN };
        let Some(Value::Bytes(uid)) = row.get(1) else { return false };
        let Some(uid) = Uid::from_slice(uid) else { return false };
        match table {
            Table::Events => self.voids_event(&uid, int(0) as u64),
            Table::Users => self.voids_at(&uid, int(3)),
            Table::Impressions | Table::Training => self.voids_at(&uid, int(2)),
            Table::Items => false,
        }
    }
}

/// Erasures on `user-events` from `marks` on.
pub(crate) async fn read(log: &dyn EventLog, bounds: &[Bounds], marks: &Offsets) -> Result<Fences, LakeError> {
    let mut fences = Fences::default();
    for &partition in bounds {
        let from = marks.get(&partition_of(partition.end)).copied().unwrap_or(0);
        scan(log, Topic::UserEvents, partition, from, |offset, record| {
            if let Some(UserRecord::Erased { uid, at }) = user_record(record) {
                fences.add(uid, Fence { offset, at });
            }
            Ok(())
        })
        .await?;
    }
    Ok(fences)
}

/// What a rewriting removed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Removed {
    pub(crate) parts: u64,
    pub(crate) rows: u64,
}

/// Writes every file of the table that holds a void row anew, without it. The manifest names the new files; it is not
/// committed here.
pub(crate) fn rewrite(lake: &mut Lake, table: Table, fences: &Fences) -> Result<Removed, LakeError> {
    let mut removed = Removed::default();
    if fences.is_empty() || !table.is_personal() {
        return Ok(removed);
    }
    let root = lake.root().to_owned();
    let entry = lake.manifest.entry(table);
    for hour in entry.hours.values_mut() {
        let mut kept = Vec::with_capacity(hour.parts.len());
        for part in std::mem::take(&mut hour.parts) {
            let path = root.join(&part.file);
            let holds = PartReader::open(table, &path)?.any_row(|row| fences.voids(table, row))?;
            if !holds {
                kept.push(part);
                continue;
            }
            removed.parts += 1;
            let (before, after) = (part.rows, without(&root, table, part, fences)?);
            removed.rows += before - after.as_ref().map_or(0, |part| part.rows);
            kept.extend(after);
        }
        hour.parts = kept;
    }
    Ok(removed)
}

fn without(root: &std::path::Path, table: Table, part: Part, fences: &Fences) -> Result<Option<Part>, LakeError> {
    let path = root.join(&part.file);
    let folder = path.parent().unwrap_or(root);
    let mut reader = PartReader::open(table, &path)?;
    let mut writer = PartWriter::create(table, folder, 0)?;
    while let Some(rows) = reader.group()? {
        rows.into_iter().filter(|row| !fences.voids(table, row)).try_for_each(|row| writer.push(row))?;
    }
    if writer.rows() == 0 {
        return Ok(None);
    }
    let written = writer.finish()?;
    let folder = part.file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let file = format!("{folder}/{}", written.name);
    Ok(Some(Part { file, rows: written.rows, bytes: written.bytes, xxh3: written.xxh3, ..part }))
}
