//! Filling a partition of a store that lost it: from the checkpoint where there is one of use, and from there or else from
//! the log's start on by replaying.
//!
//! A checkpoint is of use where the log still has every record after it: an erasure may be among them.

use super::Shared;
use super::snapshot::blocking;
use crate::EmbedderStats;
use attune_storage::{
    Bounds, CheckpointError, CheckpointFile, CheckpointPart, Checkpoints, PartitionTotals, Positions, StorageError,
    Topic, first_offset,
};
use attune_telemetry::{CheckpointIgnored, Failure};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Where a partition stands after what was lost is back.
pub(super) async fn restored(
    shared: &Shared,
    part: CheckpointPart,
    stands: Positions,
) -> Result<Positions, StorageError> {
    let Some(store) = shared.store.checkpoints(part.partitions) else { return Ok(stands) };
    let first = Positions::first(part.partition);
    let events = bounds(shared, Topic::UserEvents, part.partition).await?;
    let is_empty = stands == first;
    let is_broken_off = is_empty && store.is_restoring(part.partition).await?;
    let is_lost = is_empty && events.end > first.events || stands.events < events.start;
    if !is_broken_off && !is_lost {
        return Ok(stands);
    }
    let updates = bounds(shared, Topic::UserUpdates, part.partition).await?;
    if let Some(file) = usable(shared, part, stands, events, updates).await? {
        let totals = file.totals().clone();
        let (positions, bytes) = (totals.positions, file.bytes());
        match put_back(store, part.partition, stands, file, totals).await {
            Ok(()) => {
                let records = positions.events - first_offset(part.partition);
                shared.stats.restored(records, bytes, part.partition);
                return Ok(positions);
            }
            Err(Failed::Store(error)) => return Err(error),
            Err(Failed::File) => ignore(shared),
        }
    }
    EmbedderStats::add(&shared.stats.replayed, 1);
    if !store.is_restoring(part.partition).await? {
        return Ok(stands);
    }
    let empty = store.begin_restore(part.partition, first, token()).await?;
    let nothing = PartitionTotals { positions: first, half_life_ms: half_life_ms(shared), sums: Vec::new() };
    store.end_restore(&empty, nothing).await?;
    Ok(first)
}

enum Failed {
    Store(StorageError),
    File,
}

impl From<StorageError> for Failed {
    fn from(error: StorageError) -> Self {
        Self::Store(error)
    }
}

async fn put_back(
    store: &dyn Checkpoints,
    partition: u16,
    stands: Positions,
    mut file: CheckpointFile,
    totals: PartitionTotals,
) -> Result<(), Failed> {
    let restoration = store.begin_restore(partition, stands, token()).await?;
    loop {
        let read = blocking(move || file.next_part().map(|part| (part, file))).await;
        let (part, rest) = read.map_err(|_| Failed::File)?;
        file = rest;
        match part {
            Some(part) => store.restore(&restoration, part).await?,
            None => return Ok(store.end_restore(&restoration, totals).await?),
        }
    }
}

/// The checkpoint, where it is whole, further than the store and within the log.
async fn usable(
    shared: &Shared,
    part: CheckpointPart,
    stands: Positions,
    events: Bounds,
    updates: Bounds,
) -> Result<Option<CheckpointFile>, StorageError> {
    let Some(folder) = shared.config.checkpoints().map(ToOwned::to_owned) else { return Ok(None) };
    match blocking(move || CheckpointFile::open(&folder, part)).await {
        Ok(None) => Ok(None),
        Ok(Some(file)) => {
            let at = file.totals().positions;
            let within = (events.start..=events.end).contains(&at.events) && at.updates <= updates.end;
            if within && at.events >= stands.events {
                return Ok(Some(file));
            }
            ignore(shared);
            Ok(None)
        }
        Err(CheckpointError::Format { found, supported, .. }) => Err(StorageError::FormatVersion { found, supported }),
        Err(_) => {
            ignore(shared);
            Ok(None)
        }
    }
}

fn ignore(shared: &Shared) {
    if let Some(telemetry) = &shared.telemetry {
        telemetry.log(&CheckpointIgnored { failure: Failure::DataLoss }, None);
    }
}

async fn bounds(shared: &Shared, topic: Topic, partition: u16) -> Result<Bounds, StorageError> {
    let bounds = shared.log.partitions(topic).await?;
    bounds.get(usize::from(partition)).copied().ok_or(StorageError::Unavailable)
}

fn half_life_ms(shared: &Shared) -> u64 {
    u64::try_from(shared.config.half_life.get().as_millis()).unwrap_or(u64::MAX)
}

/// Tells one restoration from every other, of this process and of others.
pub(crate) fn token() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Empties a partition, whatever it holds; its consumers begin at the log's start.
pub(crate) async fn empty(shared: &Shared, part: CheckpointPart, stands: Positions) -> Result<bool, StorageError> {
    let Some(store) = shared.store.checkpoints(part.partitions) else { return Ok(false) };
    let restoration = store.begin_restore(part.partition, stands, token()).await?;
    let positions = Positions::first(part.partition);
    let nothing = PartitionTotals { positions, half_life_ms: half_life_ms(shared), sums: Vec::new() };
    store.end_restore(&restoration, nothing).await.map(|()| true)
}
