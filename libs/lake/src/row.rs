//! One row, as the values of its columns.

use crate::schema::{Column, Kind};

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Float(f32),
    Bool(bool),
    /// Text, or bytes of a fixed length.
    Bytes(Vec<u8>),
    Texts(Vec<String>),
    Floats(Vec<f32>),
    Pairs(Vec<(String, String)>),
}

pub type Row = Vec<Value>;

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    pub(crate) fn of<T>(value: Option<T>, into: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, into)
    }
}

/// Why a row is not one of its table: the column and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadField {
    pub column: &'static str,
    pub reason: &'static str,
}

/// Takes a row apart, column after column.
pub(crate) struct Fields<'a> {
    columns: std::slice::Iter<'a, Column>,
    values: std::vec::IntoIter<Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(columns: &'a [Column], row: Row) -> Self {
        Self { columns: columns.iter(), values: row.into_iter() }
    }

    fn next(&mut self) -> (&'static str, Value) {
        let column = self.columns.next().map_or("", |column| column.name);
        (column, self.values.next().unwrap_or(Value::Null))
    }

    /// The next value as it comes, for checks of its own.
    pub(crate) fn with<T>(
        &mut self,
        read: impl FnOnce(Value) -> Option<T>,
        reason: &'static str,
    ) -> Result<T, BadField> {
        let (column, value) = self.next();
        read(value).ok_or(BadField { column, reason })
    }

    pub(crate) fn maybe<T>(
        &mut self,
        read: impl FnOnce(Value) -> Option<T>,
        reason: &'static str,
    ) -> Result<Option<T>, BadField> {
        match self.next() {
            (_, Value::Null) => Ok(None),
            (column, value) => read(value).map(Some).ok_or(BadField { column, reason }),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64, BadField> {
        self.with(int, "is missing")
    }

    pub(crate) fn number(&mut self) -> Result<u32, BadField> {
        self.with(number, "is out of range")
    }

    pub(crate) fn float(&mut self) -> Result<f32, BadField> {
        self.with(float, "must be a finite number")
    }

    pub(crate) fn bool(&mut self) -> Result<bool, BadField> {
        self.with(|v| if let Value::Bool(b) = v { Some(b) } else { None }, "is missing")
    }

    pub(crate) fn text(&mut self) -> Result<String, BadField> {
        self.with(text, "is not UTF-8")
    }

    pub(crate) fn pairs(&mut self) -> Result<Vec<(String, String)>, BadField> {
        self.with(|v| if let Value::Pairs(pairs) = v { Some(pairs) } else { None }, "is missing")
    }

    pub(crate) fn texts(&mut self) -> Result<Vec<String>, BadField> {
        self.with(|v| if let Value::Texts(texts) = v { Some(texts) } else { None }, "is missing")
    }
}

pub(crate) fn int(value: Value) -> Option<i64> {
    if let Value::Int(int) = value { Some(int) } else { None }
}

pub(crate) fn number(value: Value) -> Option<u32> {
    int(value).and_then(|int| u32::try_from(int).ok())
}

pub(crate) fn float(value: Value) -> Option<f32> {
    if let Value::Float(float) = value { Some(float).filter(|f| f.is_finite()) } else { None }
}

pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    if let Value::Bytes(bytes) = value { Some(bytes) } else { None }
}

pub(crate) fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

/// Whether a value may stand in a column.
pub(crate) fn fits(column: &Column, value: &Value) -> bool {
    match (column.kind, value) {
        (_, Value::Null) => column.optional,
        (Kind::U32, Value::Int(n)) => u32::try_from(*n).is_ok(),
        (Kind::U64 | Kind::I64 | Kind::Millis, Value::Int(_)) => true,
        (Kind::F32, Value::Float(_)) | (Kind::Bool, Value::Bool(_)) => true,
        (Kind::Text, Value::Bytes(_)) | (Kind::Texts, Value::Texts(_)) => true,
        (Kind::Fixed(n), Value::Bytes(bytes)) => bytes.len() == n,
        (Kind::Floats, Value::Floats(_)) | (Kind::Pairs, Value::Pairs(_)) => true,
        _ => false,
    }
}
