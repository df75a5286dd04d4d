//! Log lines: typed events, one JSON object a line, in the observability contract's format.
//!
//! What a line may say is decided by [`Loggable`], which is sealed: numbers, closed lists and names of our own. There
//! is no way in for a `String`, a uid, an item id or an error's text. The first of these compiles, the others must not:
//!
//! ```
//! fn fine(fields: &mut attune_telemetry::Fields, id: attune_domain::RequestId) { fields.context("request", id); }
//! ```
//! ```compile_fail
//! fn leak(fields: &mut attune_telemetry::Fields, id: attune_domain::ItemId) { fields.context("item", id); }
//! ```
//! ```compile_fail
//! fn leak(fields: &mut attune_telemetry::Fields, uid: attune_domain::Uid) { fields.context("uid", uid); }
//! ```
//! ```compile_fail
//! fn leak(fields: &mut attune_telemetry::Fields, text: String) { fields.context("text", text); }
//! ```

mod events;
mod line;
mod loggable;

pub use events::{Event, PersonalizationComplete};
pub(crate) use line::{Line, RateLimit};
pub use line::Fields;
pub use loggable::{Loggable, Number};

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

/// Something that happened and may be written down.
pub trait LogEvent {
    /// From a closed list: `personalization_complete`.
    fn name(&self) -> &'static str;
    fn level(&self) -> LogLevel;
    fn fields(&self, fields: &mut Fields);

    /// Happens with every request, so only kept traces write it.
    fn per_request(&self) -> bool {
        false
    }
}
