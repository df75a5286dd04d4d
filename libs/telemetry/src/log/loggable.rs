//! The closed list of types that may appear in a log line.

use super::json;
use crate::{Label, Name};
use attune_domain::{CacheStatus, Device, EventKind, Geo, Level, LevelReason, ModelVersion, PageType, Segment, Tier};
use std::time::Duration;

mod sealed {
    pub trait Sealed {}
}

/// What the values of a field look like, for the schema.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    Integer,
    Number,
    Boolean,
    /// One of a closed list.
    Words(fn() -> Vec<&'static str>),
    /// A regular expression.
    Text(&'static str),
}

/// May be a value in a log line. Sealed: see the module's documentation.
///
/// ```
/// fn loggable<T: attune_telemetry::Loggable>() {}
/// loggable::<u64>();
/// ```
///
/// What comes from outside does not fit, and no other crate can make it fit.
///
/// ```compile_fail
/// fn loggable<T: attune_telemetry::Loggable>() {}
/// loggable::<String>();
/// ```
///
/// ```compile_fail
/// struct RawUserId(String);
///
/// impl attune_telemetry::Loggable for RawUserId {
///     const SHAPE: attune_telemetry::Shape = attune_telemetry::Shape::Integer;
///
///     fn write(&self, out: &mut Vec<u8>) {
///         out.extend_from_slice(self.0.as_bytes());
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` must not appear in a log line",
    note = "lines hold numbers, closed lists and names of our own; see libs/telemetry/src/log/loggable.rs"
)]
pub trait Loggable: sealed::Sealed {
    const SHAPE: Shape;

    /// Appends the value as JSON.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! loggable {
    ($($name:ty: $shape:expr, |$value:ident, $out:ident| $write:expr;)+) => {$(
        impl sealed::Sealed for $name {}
        impl Loggable for $name {
            const SHAPE: Shape = $shape;

            fn write(&self, $out: &mut Vec<u8>) {
                let $value = self;
                $write
            }
        }
    )+};
}

loggable! {
    u8: Shape::Integer, |v, out| json::integer(*v, out);
    u16: Shape::Integer, |v, out| json::integer(*v, out);
    u32: Shape::Integer, |v, out| json::integer(*v, out);
    u64: Shape::Integer, |v, out| json::integer(*v, out);
    i64: Shape::Integer, |v, out| json::integer(*v, out);
    bool: Shape::Boolean, |v, out| out.extend_from_slice(if *v { b"true" } else { b"false" });
    Level: Shape::Integer, |v, out| json::integer(v.code(), out);
    // Milliseconds, to the microsecond.
    Duration: Shape::Number, |v, out| json::thousandths(u64::try_from(v.as_micros()).unwrap_or(u64::MAX), out);
    Name: Shape::Text("^[A-Za-z0-9._:/-]{1,64}$"), |v, out| json::text(v.as_str(), out);
    ModelVersion: Shape::Text("^[A-Za-z0-9._:/-]{1,64}$"), |v, out| json::text(&v.0, out);
}

/// Closed lists, by their words.
macro_rules! lists {
    ($($name:ty),+ $(,)?) => {$(
        loggable! {
            $name: Shape::Words(|| <$name as Label>::all().iter().map(|one| one.text()).collect()),
                |v, out| json::text(v.text(), out);
        }
    )+};
}
lists! {
    CacheStatus, Device, EventKind, Geo, LevelReason, PageType, Segment, Tier,
    super::Failure, super::ItemChange, super::Route,
}
