//! Other people's histories, turned into a [`Dataset`].
//!
//! Always holds: a bad row never stops an import and never disappears: it is counted under its [`Reason`], and the first
//! of each reason are named by file, line and field, never by content. A bad file is one [`ImportError`].
//! Rows are read one at a time and a row takes at most [`MAX_LINE_BYTES`]. Raw user ids do not leave this module.
//! Nothing is written: saving the result is the caller's decision.

mod builder;
mod csv;
mod jsonl;
mod lightgcn;
mod movielens;
mod report;
mod rows;
mod table;

pub use report::{FileReport, Offence, Reason, Report};
pub use rows::MAX_LINE_BYTES;

use crate::{Dataset, ImportProgress};
use attune_identity::SubjectKey;
use builder::Builder;
use std::io;
use std::path::{Path, PathBuf};

/// What a source looks like inside; `docs/import.md` describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    MovieLens,
    LightGcn,
    Csv,
    Jsonl,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::MovieLens, Self::LightGcn, Self::Csv, Self::Jsonl];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MovieLens => "movielens",
            Self::LightGcn => "lightgcn",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.as_str() == text)
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone)]
pub struct Source {
    pub format: Format,
    /// A folder, or its main file.
    pub path: PathBuf,
}

/// Why nothing could be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{path} does not exist", path = .0.display())]
    Missing(PathBuf),
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is not {format}: {detail}", path = .path.display())]
    OtherFormat { path: PathBuf, format: Format, detail: String },
    #[error("{path} is empty", path = .0.display())]
    Empty(PathBuf),
    #[error("{path} holds more than {limit} {what}", path = .path.display())]
    TooLarge { path: PathBuf, limit: u32, what: &'static str },
}

/// Reads a source whole. The users become pseudonyms under `key`.
pub fn import(
    source: &Source,
    key: &SubjectKey,
    progress: &dyn ImportProgress,
) -> Result<(Dataset, Report), ImportError> {
    let path = &source.path;
    if let Err(error) = std::fs::metadata(path) {
        return Err(unreadable(path, error));
    }
    let mut builder = Builder::new(source.format, key, progress);
    match source.format {
        Format::MovieLens => movielens::read(path, &mut builder)?,
        Format::LightGcn => lightgcn::read(path, &mut builder)?,
        Format::Csv => csv::read(path, &mut builder)?,
        Format::Jsonl => jsonl::read(path, &mut builder)?,
    }
    progress.done();
    Ok(builder.finish(data_name(path, source.format)))
}

/// The format of a folder or file, told by the names and first lines of its files. `None` where nothing fits.
pub fn detect(path: &Path) -> Option<Format> {
    if path.is_dir() {
        let has = |name: &str| path.join(name).is_file();
        return match () {
            () if has("movies.csv") && has("ratings.csv") => Some(Format::MovieLens),
            () if has("train.txt") => Some(Format::LightGcn),
            () if has("events.csv") => Some(Format::Csv),
            () if has("events.jsonl") => Some(Format::Jsonl),
            () => None,
        };
    }
    if movielens::recognises(path) {
        Some(Format::MovieLens)
    } else if csv::recognises(path) {
        Some(Format::Csv)
    } else if jsonl::recognises(path) {
        Some(Format::Jsonl)
    } else if lightgcn::recognises(path) {
        Some(Format::LightGcn)
    } else {
        None
    }
}

fn unreadable(path: &Path, source: io::Error) -> ImportError {
    if source.kind() == io::ErrorKind::NotFound {
        ImportError::Missing(path.into())
    } else {
        ImportError::Unreadable { path: path.into(), source }
    }
}

/// The folder's or file's own name, or the format's where the path ends in none.
fn data_name(path: &Path, format: Format) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    match name.map(|n| n.to_string_lossy().into_owned()) {
        Some(name) if !name.is_empty() => name,
        _ => format.to_string(),
    }
}
