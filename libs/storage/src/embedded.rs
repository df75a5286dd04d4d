//! Durable local stores on fjall, a log-structured engine.
//!
//! Each store has a folder, one thread that writes (`writer`) and reads on tokio's blocking threads, so that no
//! blocking call runs on a worker. A commit is one engine batch with one data sync; after a commit that failed the
//! engine takes no more writes until it is opened again, because nobody knows what reached the disk.

mod checkpoints;
mod closed;
mod decisions;
mod features;
mod folder;
mod log;
mod writer;

pub use closed::must_restart;
pub use decisions::EmbeddedDecisionLog;
pub use features::EmbeddedFeatureStore;
pub use log::EmbeddedEventLog;

use crate::StorageError;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use folder::Folder;
use std::path::{Path, PathBuf};

/// Keys removed by one batch when a range goes.
const REMOVE_STEP: usize = 4_096;
const CACHE_BYTES: u64 = 64 << 20;
/// Most that is kept to be read after a crash; what has been written out to tables goes first.
const JOURNAL_BYTES: u64 = 128 << 20;

impl From<fjall::Error> for StorageError {
    fn from(error: fjall::Error) -> Self {
        use fjall::Error;
        match error {
            Error::JournalRecovery(_)
            | Error::InvalidTrailer
            | Error::InvalidTag(_)
            | Error::Decompress(_)
            | Error::Unrecoverable => Self::corrupt(format!("store folder: {error}")),
            _ => Self::Io(error.to_string()),
        }
    }
}

/// A folder with an engine in it. The engine closes before the folder is given back.
struct Engine {
    db: Database,
    dir: PathBuf,
    _folder: Folder,
}

impl Engine {
    fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StorageError> {
        let folder = Folder::open(dir)?;
        // One worker: of several, the engine keeps one free for flushing by having it pass compactions on to itself
        // without a pause.
        let builder = Database::builder(dir.join("data"))
            .worker_threads(1)
            .cache_size(cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            // Read once at most, after a crash.
            .journal_compression(CompressionType::None);
        // The engine's worker inherits the priority of the thread that opens it.
        let opening = std::thread::spawn(|| {
            give_way();
            builder.open()
        });
        let db = opening.join().map_err(|_| StorageError::Io("the engine did not open".to_owned()))??;
        Ok(Self { db, dir: dir.to_owned(), _folder: folder })
    }

    fn keyspace(&self, name: &str) -> Result<Keyspace, StorageError> {
        self.keyspace_with(name, KeyspaceCreateOptions::default())
    }

    /// The options are those of a keyspace that is new; an old one keeps its own.
    fn keyspace_with(&self, name: &str, options: KeyspaceCreateOptions) -> Result<Keyspace, StorageError> {
        Ok(self.db.keyspace(name, || options)?)
    }

    /// A batch whose commit is durable.
    fn batch(&self) -> fjall::OwnedWriteBatch {
        self.db.batch().durability(Some(PersistMode::SyncData))
    }

    /// After one that failed the engine takes no more: [`must_restart`] tells.
    fn commit(&self, batch: fjall::OwnedWriteBatch) -> Result<(), StorageError> {
        batch.commit().map_err(|error| match error {
            fjall::Error::Io(_) | fjall::Error::Poisoned => {
                closed::tell(&self.dir);
                StorageError::Unavailable
            }
            error => error.into(),
        })
    }

    /// Removes every key below `end`, a step at a time. Not synced: a removal lost in a power cut is repeated.
    fn remove_below(&self, keyspace: &Keyspace, end: &[u8]) -> Result<u64, StorageError> {
        let mut removed = 0;
        loop {
            let mut batch = self.db.batch();
            let mut step = 0;
            for guard in keyspace.range(..end).take(REMOVE_STEP) {
                batch.remove(keyspace, guard.key()?);
                step += 1;
            }
            if step == 0 {
                return Ok(removed);
            }
            self.commit(batch)?;
            removed += step;
        }
    }
}

/// From now on this thread gives way to those that visitors wait for: on a machine without a core to spare, its bursts
/// would otherwise stand between them and their pages.
fn give_way() {
    // Who may not is no worse off.
    let _refused = rustix::process::nice(10);
}

/// Runs a blocking read off the workers.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|e| Err(StorageError::Io(format!("read did not finish: {e}"))))
}

/// Days in byte order, negative ones first.
fn day_bytes(day: i64) -> [u8; 8] {
    ((day as u64) ^ (1 << 63)).to_be_bytes()
}
