//! What a span attribute can hold. There is no way from a `String` to an attribute: see [`Name`].

use attune_domain::{ModelVersion, RequestId};
use std::sync::Arc;
use std::time::Duration;

/// Value of a span attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum AttrValue {
    Bool(bool),
    Int(i64),
    Float(f64),
    Static(&'static str),
    /// From [`Name`], [`ModelVersion`] and the like; never from outside text.
    Shared(Arc<str>),
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
        impl From<$from> for AttrValue {
            fn from($value: $from) -> Self {
                $make
            }
        }
    )+};
}
attr_from! {
    bool => |v| Self::Bool(v),
    i64 => |v| Self::Int(v),
    i32 => |v| Self::Int(v.into()),
    u8 => |v| Self::Int(v.into()),
    u16 => |v| Self::Int(v.into()),
    u32 => |v| Self::Int(v.into()),
    u64 => |v| Self::Int(i64::try_from(v).unwrap_or(i64::MAX)),
    usize => |v| Self::Int(i64::try_from(v).unwrap_or(i64::MAX)),
    f64 => |v| Self::Float(v),
    f32 => |v| Self::Float(v.into()),
    &'static str => |v| Self::Static(v),
    Name => |v| Self::Shared(v.0),
    &Name => |v| Self::Shared(v.0.clone()),
    &ModelVersion => |v| Self::Shared(v.0.clone()),
    RequestId => |v| Self::Shared(v.to_string().into()),
    Duration => |v| Self::Float(v.as_secs_f64()),
}
