//! The lake: what the logs hold, as Parquet in folders by hour, for analysis, for training and to move a platform.
//!
//! Always holds: rows name visitors by their pseudonym; a manifest, replaced last and in one step, says what the lake
//! is; a visitor who was erased is in no lake that was exported to since.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on fails"))]

mod erasure;
mod error;
mod export;
mod file;
mod history;
mod hours;
mod import;
mod lake;
mod manifest;
mod row;
mod schema;
mod source;
pub mod tables;
#[cfg(test)]
mod testbed;
pub mod training;

pub use error::LakeError;
pub use export::{ExportOptions, ExportProgress, NoExportProgress, TableReport, export};
pub use history::{History, Reader, Version, View};
pub use import::{Contents, ImportReport, Offence, import};
pub use lake::Lake;
pub use manifest::{HourEntry, MANIFEST, Manifest, Offsets, Part, TableEntry};
pub use row::{BadField, Row, Value};
pub use schema::{Column, Kind, SCHEMA_VERSION, Table};
pub use source::LakeSource;
