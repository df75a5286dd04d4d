//! The closed list of types that may appear in a log line.

use crate::{Label, Name};
use attune_domain::{Level, ModelVersion, RequestId};
use std::fmt::Write as _;
use std::time::Duration;

mod sealed {
    pub trait Sealed {}
}

/// May be a value under `context`. Sealed: see the module's documentation.
pub trait Loggable: sealed::Sealed {
    /// Appends the value as JSON.
    fn write(&self, out: &mut String);
}

/// May be a value under `metrics`.
pub trait Number: Loggable {}

macro_rules! integers {
    ($($name:ty),+) => {$(
        impl sealed::Sealed for $name {}
        impl Loggable for $name {
            fn write(&self, out: &mut String) {
                // Writing to a String cannot fail.
                let _ = write!(out, "{self}");
            }
        }
        impl Number for $name {}
    )+};
}
integers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, bool);

macro_rules! texts {
    ($($name:ty => |$value:ident| $text:expr),+ $(,)?) => {$(
        impl sealed::Sealed for $name {}
        impl Loggable for $name {
            fn write(&self, out: &mut String) {
                let $value = self;
                write_text($text, out);
            }
        }
    )+};
}
texts! {
    Name => |v| v.as_str(),
    ModelVersion => |v| &v.0,
    &'static str => |v| v,
}

impl sealed::Sealed for f64 {}
impl Loggable for f64 {
    /// JSON has no NaN and no infinity.
    fn write(&self, out: &mut String) {
        if self.is_finite() {
            let _ = write!(out, "{self}");
        } else {
            out.push_str("null");
        }
    }
}
impl Number for f64 {}

impl sealed::Sealed for f32 {}
impl Loggable for f32 {
    fn write(&self, out: &mut String) {
        if self.is_finite() {
            let _ = write!(out, "{self}");
        } else {
            out.push_str("null");
        }
    }
}
impl Number for f32 {}

impl sealed::Sealed for Level {}
impl Loggable for Level {
    fn write(&self, out: &mut String) {
        self.code().write(out);
    }
}
impl Number for Level {}

impl sealed::Sealed for Duration {}
impl Loggable for Duration {
    /// Milliseconds, to the microsecond.
    fn write(&self, out: &mut String) {
        let _ = write!(out, "{}", self.as_micros() as f64 / 1e3);
    }
}
impl Number for Duration {}

impl sealed::Sealed for RequestId {}
impl Loggable for RequestId {
    fn write(&self, out: &mut String) {
        let _ = write!(out, "\"{self}\"");
    }
}

/// Any closed list, wrapped: `One(page_type)`.
impl<L: Label> sealed::Sealed for One<L> {}
impl<L: Label> Loggable for One<L> {
    fn write(&self, out: &mut String) {
        write_text(self.0.text(), out);
    }
}

/// A value of a closed list, as log lines take it.
pub(crate) struct One<L>(pub(crate) L);

impl<T: Loggable> sealed::Sealed for Option<T> {}
impl<T: Loggable> Loggable for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }
}
impl<T: Number> Number for Option<T> {}

/// A JSON string with everything escaped that must be.
pub(crate) fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
