//! What can go wrong with a lake.

use crate::schema::Table;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    #[error("{path} holds no lake (manifest.json is missing)", path = .0.display())]
    Absent(PathBuf),
    #[error("{path} is neither empty nor a lake", path = .0.display())]
    Foreign(PathBuf),
    #[error("cannot read {path}", path = .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot write {path}", path = .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("{path} is damaged: {detail}", path = .path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("{path} has schema version {found}, this build reads {expected}", path = .path.display())]
    Version { path: PathBuf, found: u32, expected: u32 },
    #[error("the lake's users are pseudonyms under subject key {found}, the platform's key is {expected}")]
    OtherKey { found: String, expected: String },
    #[error("the lake was begun with a horizon of {found} ms; choose another folder for {asked} ms")]
    OtherHorizon { found: i64, asked: i64 },
    #[error("{path} is being written by another export", path = .0.display())]
    Busy(PathBuf),
    #[error("a row of {table}: {column} cannot be stored")]
    Row { table: Table, column: &'static str },
    #[error("{topic} record {offset}: {reason}")]
    Record { topic: &'static str, offset: u64, reason: String },
    #[error("read the {0}")]
    Source(&'static str, #[source] Box<dyn std::error::Error + Send + Sync>),
}

impl LakeError {
    /// Exit code of a command that ends with it.
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Absent(_)
            | Self::Foreign(_)
            | Self::Damaged { .. }
            | Self::Version { .. }
            | Self::OtherKey { .. } => 65,
            Self::Record { .. } => 65,
            Self::OtherHorizon { .. } => 64,
            Self::Row { .. } => 70,
            Self::Read(..) | Self::Write(..) | Self::Busy(_) | Self::Source(..) => 75,
        }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Write(path, error)
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Read(path, error)
    }

    pub(crate) fn damaged(path: &Path, detail: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), detail: detail.to_string() }
    }

    pub(crate) fn source<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Source(what, Box::new(error))
    }
}
