//! What can go wrong with a store, whichever back-end it is.

/// Why a store refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    #[error("store i/o: {0}")]
    Io(String),
    /// Bytes on disk or on the wire are not what was written.
    #[error("corrupt {what}")]
    Corrupt { what: String },
    /// The caller asked for what no store takes; nothing was written.
    #[error("{field}: {problem}")]
    Invalid { field: String, problem: String },
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
    /// The owner of the store cannot be reached, or did not answer in time. A write may or may not have happened:
    /// dedup identities and expected offsets make a second try harmless.
    #[error("store is unavailable")]
    Unavailable,
    /// A server refused the connection, or could not be reached at all.
    #[error("cannot use {address}: {reason}")]
    Connect { address: String, reason: String },
}

impl StorageError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded | Self::Unavailable | Self::Connect { .. } | Self::InUse { .. } => true,
            Self::Io(_)
            | Self::Corrupt { .. }
            | Self::Invalid { .. }
            | Self::Conflict { .. }
            | Self::FormatVersion { .. } => false,
        }
    }

    pub(crate) fn invalid(field: &str, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.to_owned(), problem: problem.into() }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}
