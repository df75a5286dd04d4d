//! Keeping up with the item-updates log.

use crate::{Serving, SharedServing};
use attune_domain::{Catalogue, ItemUpdate};
use attune_proto::{convert, state::v1 as wire};
use attune_storage::{EventLog, Record, StorageError, Topic};
use prost::Message as _;
use std::time::Duration;
use tokio::sync::watch;

const BATCH: usize = 4096;
const WAIT: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(200);

/// Why a catalogue could not be read from the log.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("read item-updates")]
    Storage(#[from] StorageError),
    #[error("item-updates record {offset} is not an item update")]
    Malformed { offset: u64 },
}

fn decode(offset: u64, record: &Record) -> Result<(u64, ItemUpdate), CatalogueError> {
    let malformed = CatalogueError::Malformed { offset };
    let Ok(update) = wire::ItemUpdate::decode(&record.value[..]) else { return Err(malformed) };
    convert::item_update(&update).map(|update| (offset, update)).map_err(|_| malformed)
}

/// The catalogue after every record the log holds now.
pub async fn load_catalogue(log: &dyn EventLog) -> Result<Catalogue, CatalogueError> {
    let end = log.bounds(Topic::ItemUpdates).await?.end;
    replay_catalogue(log, end).await
}

/// The catalogue after the records before `end`.
pub async fn replay_catalogue(log: &dyn EventLog, end: u64) -> Result<Catalogue, CatalogueError> {
    let mut catalogue = Catalogue::default();
    while catalogue.next_offset() < end {
        let from = catalogue.next_offset();
        let max = BATCH.min((end - from) as usize);
        let records = log.read(Topic::ItemUpdates, from, max, Duration::ZERO).await?;
        if records.is_empty() {
            return Err(CatalogueError::Malformed { offset: from });
        }
        for (offset, record) in &records {
            let (offset, update) = decode(*offset, record)?;
            catalogue.apply(offset, update).map_err(|offset| CatalogueError::Malformed { offset })?;
        }
    }
    Ok(catalogue)
}

/// Applies item updates as they come, until told to stop. While the log is away the last catalogue stays.
pub async fn follow(
    shared: SharedServing,
    log: std::sync::Arc<dyn EventLog>,
    on_change: impl Fn(&Serving) + Send,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let from = shared.load().catalogue.next_offset();
        let records = tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            records = log.read(Topic::ItemUpdates, from, BATCH, WAIT) => records,
        };
        let Ok(records) = records else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        // The log has one writer, which checks what it writes: a malformed record is skipped by stopping before it.
        let updates: Vec<_> = records.iter().map_while(|(offset, record)| decode(*offset, record).ok()).collect();
        if updates.is_empty() {
            if !records.is_empty() {
                tokio::time::sleep(RETRY).await;
            }
            continue;
        }
        if let Ok(next) = shared.load().with_updates(updates) {
            on_change(&next);
            shared.store(std::sync::Arc::new(next));
        }
    }
}
