//! What a span attribute can hold. There is no way from a `String` to an attribute: see [`Name`].

use attune_domain::{ModelVersion, RequestId};
use std::sync::Arc;
use std::time::Duration;

/// Value of a span attribute. Text in it is copied into the trace, so that recording touches no shared counter.
#[derive(Debug, Clone, Copy)]
pub struct AttrValue<'a>(pub(crate) Given<'a>);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Given<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Static(&'static str),
    /// From [`Name`], [`ModelVersion`] and the like; never from outside text.
    Text(&'a str),
    Id(RequestId),
}

/// A short name that comes from our own configuration or models: an index, a model, a point of presence.
/// At most 64 bytes of `[A-Za-z0-9._:/-]`, so that neither a visitor's text nor a user id with odd characters fits by
/// accident; the caller must not make one from request data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<str>);

impl Name {
    pub const MAX_BYTES: usize = 64;

    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= Self::MAX_BYTES;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:/-".contains(&b);
        (fits && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! attr_from {
    ($($from:ty => |$value:ident| $make:expr),+ $(,)?) => {$(
        impl<'a> From<$from> for AttrValue<'a> {
            fn from($value: $from) -> Self {
                Self($make)
            }
        }
    )+};
}
attr_from! {
    bool => |v| Given::Bool(v),
    i64 => |v| Given::Int(v),
    i32 => |v| Given::Int(v.into()),
    u8 => |v| Given::Int(v.into()),
    u16 => |v| Given::Int(v.into()),
    u32 => |v| Given::Int(v.into()),
    u64 => |v| Given::Int(i64::try_from(v).unwrap_or(i64::MAX)),
    usize => |v| Given::Int(i64::try_from(v).unwrap_or(i64::MAX)),
    f64 => |v| Given::Float(v),
    f32 => |v| Given::Float(v.into()),
    &'static str => |v| Given::Static(v),
    &'a Name => |v| Given::Text(&v.0),
    &'a ModelVersion => |v| Given::Text(&v.0),
    RequestId => |v| Given::Id(v),
    Duration => |v| Given::Float(v.as_secs_f64()),
}
