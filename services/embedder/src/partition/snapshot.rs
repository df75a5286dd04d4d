//! A checkpoint of a partition while it is taken: parts of the store between batches, and what the batches do meanwhile.
//!
//! Always holds: it is finished at the offsets that the task and the store agree on, or given up; no batch waits for more
//! than one part to be read and handed to the file.

use super::Shared;
use crate::EmbedderStats;
use attune_storage::{
    CheckpointError, CheckpointPart, CheckpointWriter, ExportCursor, Positions, StorageError, StorePart,
    checkpoint_path,
};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Keys read between two batches.
const SLICE: usize = 1_000;

/// When the next is due, and the one that is being taken.
pub(super) struct Snapshots {
    part: CheckpointPart,
    /// None where no checkpoints are kept.
    due: Option<Instant>,
    taking: Option<Taking>,
    /// Syncing the file may take its time.
    finishing: Option<JoinHandle<Result<Written, CheckpointError>>>,
    /// Where the last one stands.
    last: Option<Positions>,
}

struct Taking {
    writer: CheckpointWriter,
    cursor: ExportCursor,
    begun: Instant,
    /// What a visitor had who was erased meanwhile may already be in the file.
    erased: bool,
}

struct Written {
    bytes: u64,
    took: Duration,
    positions: Positions,
}

/// Why none came of it.
enum GivenUp {
    Store,
    File,
}

impl From<StorageError> for GivenUp {
    fn from(_: StorageError) -> Self {
        Self::Store
    }
}

impl From<CheckpointError> for GivenUp {
    fn from(_: CheckpointError) -> Self {
        Self::File
    }
}

impl Snapshots {
    pub(super) fn new(shared: &Shared, part: CheckpointPart) -> Self {
        let folder = shared.config.checkpoints();
        let keeps = folder.filter(|_| shared.store.checkpoints(part.partitions).is_some());
        let due = keeps.map(|folder| Instant::now() + first_pause(folder, part, shared.config.checkpoint_every.get()));
        Self { part, due, taking: None, finishing: None, last: None }
    }

    pub(super) fn is_taking(&self) -> bool {
        self.taking.is_some()
    }

    /// Until the next is due, where none is being taken.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.due.filter(|_| self.finishing.is_none()).map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// What is being taken is of a store that may not be there any more.
    pub(super) fn give_up(&mut self) {
        self.taking = None;
    }

    /// A piece of what is being taken or due; `is_behind` puts off what is due for a while.
    pub(super) async fn advance(&mut self, shared: &Shared, stands: Positions, is_behind: bool) {
        let every = shared.config.checkpoint_every.get();
        if let Err(reason) = self.step(shared, stands, is_behind, every).await {
            self.taking = None;
            self.due = Some(Instant::now() + every);
            if matches!(reason, GivenUp::File) {
                EmbedderStats::add(&shared.stats.checkpoints_failed, 1);
            }
        }
    }

    async fn step(
        &mut self,
        shared: &Shared,
        stands: Positions,
        is_behind: bool,
        every: Duration,
    ) -> Result<(), GivenUp> {
        if let Some(finishing) = self.finishing.take_if(|finishing| finishing.is_finished()) {
            let written = finishing.await.map_err(|_| GivenUp::File)??;
            shared.stats.checkpointed(self.part.partition, written.bytes, written.took);
            self.last = Some(written.positions);
        }
        if let Some(taking) = self.taking.take() {
            return self.slice(shared, stands, taking, every).await;
        }
        let Some(due) = self.due.filter(|_| self.finishing.is_none()) else { return Ok(()) };
        let now = Instant::now();
        if now < due || is_behind && now < due + every {
            return Ok(());
        }
        if self.last == Some(stands) {
            self.due = Some(now + every);
            return Ok(());
        }
        let Some(folder) = shared.config.checkpoints().map(Path::to_owned) else { return Ok(()) };
        let part = self.part;
        let writer = blocking(move || CheckpointWriter::create(&folder, part)).await?;
        self.taking = Some(Taking { writer, cursor: ExportCursor::default(), begun: now, erased: false });
        Ok(())
    }

    async fn slice(
        &mut self,
        shared: &Shared,
        stands: Positions,
        mut taking: Taking,
        every: Duration,
    ) -> Result<(), GivenUp> {
        let store = shared.store.checkpoints(self.part.partitions).ok_or(GivenUp::Store)?;
        let (part, next) = store.export(self.part.partition, &taking.cursor, SLICE).await?;
        taking.writer = put(taking.writer, part).await?;
        if let Some(cursor) = next {
            self.taking = Some(Taking { cursor, ..taking });
            return Ok(());
        }
        let totals = store.totals(self.part.partition).await?;
        // A store that lost something, or that somebody else writes, is elsewhere.
        if totals.positions != stands {
            return Err(GivenUp::Store);
        }
        let Taking { writer, begun, erased, .. } = taking;
        self.due = Some(if erased { Instant::now() } else { begun + every });
        self.finishing = Some(tokio::task::spawn_blocking(move || {
            let bytes = writer.finish(&totals)?;
            Ok(Written { bytes, took: begun.elapsed(), positions: totals.positions })
        }));
        Ok(())
    }

    /// What a batch did that is stored now.
    pub(super) async fn note(&mut self, effects: Option<StorePart>) {
        let (Some(effects), Some(mut taking)) = (effects, self.taking.take()) else { return };
        taking.erased |= !effects.fences.is_empty();
        // Without it the checkpoint would be wrong: there is none.
        if let Ok(writer) = put(taking.writer, effects).await {
            taking.writer = writer;
            self.taking = Some(Taking { ..taking });
        }
    }
}

async fn put(mut writer: CheckpointWriter, part: StorePart) -> Result<CheckpointWriter, CheckpointError> {
    blocking(move || writer.put(&part).map(|()| writer)).await
}

/// A process that is often restarted keeps the pace: it begins with what is left of the interval.
fn first_pause(folder: &Path, part: CheckpointPart, every: Duration) -> Duration {
    let written = std::fs::metadata(checkpoint_path(folder, part.partition)).and_then(|file| file.modified());
    let age = written.ok().and_then(|written| written.elapsed().ok());
    age.map_or(Duration::ZERO, |age| every.saturating_sub(age))
}

/// Off the workers: a disk may take its time.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CheckpointError> + Send + 'static,
) -> Result<T, CheckpointError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|e| Err(CheckpointError::Io { path: Default::default(), source: std::io::Error::other(e) }))
}
