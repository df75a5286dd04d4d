//! Log lines: typed events, one JSON object a line, in the observability contract's format.
//!
//! Always holds: a line is one of the [`EVENTS`], with the fields that its type names, in the schema's order; what a
//! field may hold is decided by [`Loggable`], which is sealed, so that there is no way in for a `String`, a uid, an item
//! id, a vector, a document or an error's text (`tests/not_loggable` shows each refused); and writing never waits
//! for the output (`writer.rs`).

mod events;
mod json;
mod limit;
mod line;
mod loggable;
mod pattern;
mod pipe;
mod schema;
mod writer;

pub use events::*;
pub use line::Fields;
pub(crate) use line::Source;
pub use loggable::{Loggable, Shape};
pub use pattern::log_line_pattern;
pub(crate) use pipe::{HeldLine, Judged, LogCounters, Logs, Place};
pub use schema::log_schema;

use serde::{Deserialize, Serialize};

/// How much someone should care. ERROR: someone must look. WARN: unexpected, handled. INFO: a change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }

    /// OpenTelemetry's severity number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Trace => 1,
            Self::Debug => 5,
            Self::Info => 9,
            Self::Warn => 13,
            Self::Error => 17,
        }
    }
}

/// The last 64 characters, with all but `[A-Za-z0-9._:/-]` replaced: for names that the machine gives.
fn plain(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(64);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._:/-".contains(c) { c } else { '_' };
    text.chars().skip(skip).map(plain).collect()
}
