//! What can go wrong with a store, whichever back-end it is.

/// Why a store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("store i/o: {0}")]
    Io(String),
    /// Bytes on disk or on the wire are not what was written.
    #[error("corrupt {what}")]
    Corrupt { what: String },
    /// Another process owns the folder.
    #[error("state folder is in use by process {pid}")]
    InUse { pid: u32 },
    /// A compare-and-set found something else.
    #[error("expected offset {expected}, found {found}")]
    Conflict { expected: u64, found: u64 },
    /// Written by another version of the software.
    #[error("state folder has format {found}, this build reads {supported}")]
    FormatVersion { found: u32, supported: u32 },
    /// The write queue is full; nothing was written.
    #[error("store is overloaded")]
    Overloaded,
    /// The owner of the store cannot be reached.
    #[error("store is unavailable")]
    Unavailable,
}

impl StorageError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded | Self::Unavailable | Self::InUse { .. } => true,
            Self::Io(_) | Self::Corrupt { .. } | Self::Conflict { .. } | Self::FormatVersion { .. } => false,
        }
    }
}
