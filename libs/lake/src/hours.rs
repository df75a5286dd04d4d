//! Rows into the files of their hours.

use crate::error::LakeError;
use crate::file::PartWriter;
use crate::manifest::{Part, hour_folder, hour_of};
use crate::row::Row;
use crate::schema::Table;
use attune_domain::UnixMillis;
use attune_storage::partition_of;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files open at once: a log is nearly in the order of time.
const OPEN: usize = 8;
/// A file that is full is followed by another one.
const PART_ROWS: u64 = 1 << 20;

struct Open {
    writer: PartWriter,
    touched: u64,
    times: (UnixMillis, UnixMillis),
    offsets: BTreeMap<u16, (u64, u64)>,
}

/// Writers by the start of the hour.
pub(crate) struct Hours {
    root: PathBuf,
    table: Table,
    open: BTreeMap<UnixMillis, Open>,
    clock: u64,
    done: Vec<(UnixMillis, Part)>,
}

impl Hours {
    pub(crate) fn new(root: &Path, table: Table) -> Self {
        Self { root: root.to_owned(), table, open: BTreeMap::new(), clock: 0, done: Vec::new() }
    }

    pub(crate) fn push(&mut self, at: UnixMillis, offset: Option<u64>, row: Row) -> Result<(), LakeError> {
        self.push_to(hour_of(at), at, offset, row)
    }

    pub(crate) fn push_to(
        &mut self,
        hour: UnixMillis,
        at: UnixMillis,
        offset: Option<u64>,
        row: Row,
    ) -> Result<(), LakeError> {
        self.clock += 1;
        if !self.open.contains_key(&hour) {
            if self.open.len() == OPEN
                && let Some(oldest) = self.open.iter().min_by_key(|(_, open)| open.touched).map(|(hour, _)| *hour)
            {
                self.finish_one(oldest)?;
            }
            let folder = self.root.join(hour_folder(self.table, hour));
            let writer = PartWriter::create(self.table, &folder, self.clock)?;
            self.open.insert(hour, Open { writer, touched: 0, times: (at, at), offsets: BTreeMap::new() });
        }
        let Some(open) = self.open.get_mut(&hour) else { return Ok(()) };
        open.touched = self.clock;
        open.times = (open.times.0.min(at), open.times.1.max(at));
        if let Some(offset) = offset {
            let range = open.offsets.entry(partition_of(offset)).or_insert((offset, offset));
            *range = (range.0.min(offset), range.1.max(offset));
        }
        open.writer.push(row)?;
        if open.writer.rows() >= PART_ROWS { self.finish_one(hour) } else { Ok(()) }
    }

    fn finish_one(&mut self, hour: UnixMillis) -> Result<(), LakeError> {
        let Some(open) = self.open.remove(&hour) else { return Ok(()) };
        let written = open.writer.finish()?;
        self.done.push((
            hour,
            Part {
                file: format!("{}/{}", hour_folder(self.table, hour), written.name),
                rows: written.rows,
                bytes: written.bytes,
                xxh3: written.xxh3,
                min_time: open.times.0,
                max_time: open.times.1,
                offsets: open.offsets,
            },
        ));
        Ok(())
    }

    /// All files, durable, with the start of their hours.
    pub(crate) fn finish(mut self) -> Result<Vec<(UnixMillis, Part)>, LakeError> {
        while let Some(hour) = self.open.keys().next().copied() {
            self.finish_one(hour)?;
        }
        Ok(self.done)
    }
}
